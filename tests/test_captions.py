"""Captions: the words of photos, the decoder and its search, BLEU, learning, resuming, and telling a photo."""

import csv
import json
import math
import random
import shutil
import warnings
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from conftest import DATA, PLAIN, rows, same_run, state
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from data.captions import UNKNOWN, UNKNOWN_RATE, Captions, split_words
from models.captioner import CaptionDecoder, search
from models.encoder import ImageEncoder
from trainer.tasks.captioning import Captioning, fit
from utils.errors import DataError
from utils.meters.bleu import Bleu

FLICKR = DATA / "captions_flickr"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (120, 120, 120)}
# Small and fast: pictures of 8 x 8 pixels, and a frozen perceptron of random weights to see them.
SIGHT = ["--model.encoder=MLP", "--model.encoder.num_classes=24", "--model.decoder.feature_size=24"]
SHRINK = "[{name: Resize, size: 8}, {name: CenterCrop, size: 8}]"
REST = [
    "--data.dataset.root=photos",
    f"--data.transform.eval={SHRINK}",
    "--model.decoder.embedding=16",
    "--model.decoder.width=24",
    "--batch-size=4",
    "--print-freq=1",
    *PLAIN,
]
SMALL = [*SIGHT, *REST, f"--data.transform.train={SHRINK}"]


def paint(path, colour: str, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-25, 25, (10, 12, 3))
    Image.fromarray((noise + COLOURS[colour]).clip(0, 255).astype(np.uint8)).save(path)


def sentences(colour: str) -> list[str]:
    return [f"A {colour} wall, seen from here .", f"The wall is {colour}"]


@pytest.fixture
def photos(tmp_path):
    """24 photos of walls in four colours, two captions each, as Flickr's text."""
    folder = tmp_path / "photos"
    lines = [["image", "caption"]]
    for i in range(24):
        colour = list(COLOURS)[i % 4]
        paint(folder / "images" / f"{i:02d}.png", colour, i)
        lines += [[f"{i:02d}.png", sentence] for sentence in sentences(colour)]
    with open(folder / "captions.txt", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return folder


class Nothing:
    """An `update` from which nobody learns."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, loss, role="model", weight=None):
        assert role == "decoder"


def words_of(data: Captions, index: int) -> list[list[str]]:
    return [[data.vocabulary[n] for n in caption[1:-1]] for caption in data.captions[index]]


# Words and files


def test_captions_are_taken_apart_into_words():
    assert split_words('Two people, a "dog" and 2 X-mas trees .') == [
        "two",
        "people",
        "a",
        "dog",
        "and",
        "2",
        "x-mas",
        "trees",
    ]
    assert split_words("The man's — don’t") == ["the", "man's", "don’t"]
    assert split_words("两个人在abc球场上,踢球。") == [*"两个人在", "abc", *"球场上踢球"]
    assert split_words(" . ") == []


def test_all_formats_give_the_same(photos, tmp_path):
    first = Captions(str(photos), "train")
    rest = list(csv.reader((photos / "captions.txt").read_text().splitlines()))[1:]
    numbered = "".join(f"{name}#{i % 2}\t{caption}\n" for i, (name, caption) in enumerate(rest))
    entries = [
        {"url": "", "image_id": n, "caption": [a, b]} for (n, a), (_, b) in zip(rest[::2], rest[1::2], strict=True)
    ]
    (photos / "Flickr8k.token.txt").write_text(numbered)
    (photos / "caption.json").write_text(json.dumps(entries))
    for name in ("Flickr8k.token.txt", "caption.json"):
        other = Captions(str(photos), "train", annotations=name)
        assert other.ids == first.ids and other.vocabulary == first.vocabulary
        assert all(words_of(other, i) == words_of(first, i) for i in range(len(first)))
    (photos / "captions.txt").unlink()
    (photos / "Flickr8k.token.txt").unlink()
    shutil.move(photos / "images", photos / "caption_train_images")
    assert Captions(str(photos), "train").files == [str(photos / "caption_train_images" / name) for name in first.ids]


def test_chinese_is_read_and_written_without_spaces(photos):
    entries = [{"image_id": f"{i:02d}.png", "caption": ["两个人在ABC踢球"]} for i in range(24)]
    (photos / "a.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    data = Captions(str(photos), "train", annotations="a.json")
    assert words_of(data, 0)[0] == [*"两个人在", "abc", *"踢球"]
    task = Captioning(nn.Identity(), CaptionDecoder(len(data.vocabulary), 3), data.vocabulary)
    assert task._text(data.captions[0][0][1:].tolist()) == "两个人在 abc 踢球"


def test_no_photo_is_on_both_sides_and_none_is_lost(photos):
    train, val = (Captions(str(photos), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 8) and not set(train.ids) & set(val.ids)
    assert train.ids == Captions(str(photos), "train").ids
    few = [Captions(str(photos), split, photos=10, val_fraction=0.3).ids for split in ("train", "val")]
    assert (len(few[0]), len(few[1]), len({*few[0], *few[1]})) == (7, 3, 10)
    assert (
        Captions(str(photos), "val", val_fraction=0, photos=10).ids
        == Captions(str(photos), "train", photos=10, val_fraction=0).ids
    )
    assert len(Captions(str(photos / "images"), "test")) == 24 == len(Captions(str(photos), "test"))
    with pytest.raises(ValueError, match="photos=0 leaves no photo"):
        Captions(str(photos), "train", photos=0)


def test_the_vocabulary_is_of_the_training_captions_and_plain(photos):
    train, val = (Captions(str(photos), split) for split in ("train", "val"))
    alone = f"{val.ids[0]},Zebra wall\n{train.ids[0]},Yak wall\n{train.ids[1]},\n"
    (photos / "captions.txt").write_text((photos / "captions.txt").read_text() + alone)
    train = Captions(str(photos), "train")
    val = Captions(str(photos), "val", vocabulary=train.meta["vocabulary"])
    assert json.loads(json.dumps(train.meta)) == train.meta
    assert train.meta["image_size"] == [10, 12] and train.meta["vocabulary_size"] == len(train.vocabulary)
    assert train.vocabulary[:5] == ["<pad>", "<start>", "<end>", "<unk>", "wall"]
    assert "yak" in train.vocabulary and "zebra" not in train.vocabulary
    assert val.captions[0][2].tolist() == [1, UNKNOWN, train.vocabulary.index("wall"), 2]
    assert "yak" not in Captions(str(photos), "train", min_count=2).vocabulary
    assert Captions(str(photos), "val").vocabulary == train.vocabulary
    assert len(train.captions[1]) == 2, "a caption without a word is left out"
    torch.manual_seed(0)
    yak = train.vocabulary.index("yak")
    read = [train[0][1][2][1].item() for _ in range(400)]
    assert set(read) == {yak, UNKNOWN} and read.count(UNKNOWN) / 400 == pytest.approx(UNKNOWN_RATE, abs=0.08)
    assert all(torch.equal(a, b) for a, b in zip(val[0][1], val.captions[0], strict=True))
    assert len(train.rare) and not len(Captions(str(photos), "train", val_fraction=0).rare)


def test_a_batch_holds_every_caption_of_its_photos(photos):
    data = Captions(str(photos), "val")
    pictures, words, lengths, owners = data.collate([data[0], data[1]])
    assert pictures.shape == (2, 3, 10, 12) and 0 <= pictures.min() <= pictures.max() <= 1
    assert owners.tolist() == [0, 1, 0, 1] and lengths == [6 + 1, 6 + 1, 4 + 1, 4 + 1]
    assert words.shape == (4, 8) and words[2].tolist()[5:] == [2, 0, 0]
    features = torch.randn(len(data), 5)
    assert torch.equal(data.with_features(features).collate([data.with_features(features)[1]])[0], features[1:2])
    test = Captions(str(photos), "test", vocabulary=data.vocabulary)
    assert torch.equal(test.collate([test[0], test[1]]), torch.stack([test.pictures[0], test.pictures[1]]))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("captions.txt", "", "holds no captions"),
        ("captions.txt", "image,caption\n", "holds no captions"),
        ("captions.txt", "00.png,A wall\n", "captions.txt:1: must be the header image,caption"),
        ("captions.txt", "image,caption\n00.png,A wall, red\n", "captions.txt:2: has 3 columns where the header has 2"),
        (
            "captions.txt",
            "image,caption\n99.png,A wall\n98.png,A\n",
            "captions of 99.png (and of 1 more that are missing)",
        ),
        (
            "captions.txt",
            'image,caption\n00.png,"A wall\n01.png,A\n',
            "captions.txt:3: is no CSV (unexpected end of data)",
        ),
        ("captions.txt", b"image,caption\n00.png,\xff\n", "captions.txt:2: is not UTF-8"),
        ("captions.txt", "00.png#0\tA wall\nred\n", "captions.txt:2: is not photo.jpg#number, a tab and a caption"),
        ("captions.json", "", "is not JSON"),
        ("captions.json", "[]", "holds no captions"),
        ("captions.json", '{"images": [], "annotations": []}', "is no list of"),
        ("captions.json", '[{"image_id": 7, "caption": ["a"]}]', "is no list of"),
        ("captions.json", '[{"image_id": "00.png", "caption": "a"}]', "is no list of"),
        ("captions.json", '[{"image_id": "98.png", "caption": ["a"]}]', "captions of 98.png, but"),
    ],
)
def test_bad_files_get_a_sentence(run, photos, name, content, told):
    (photos / "captions.txt").unlink()
    (photos / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    given = run("train", "captions", *SMALL)
    assert given.code == 3 and told in given.err, given.err
    assert len(given.err.strip().splitlines()) == 1


def test_bad_folders_get_a_sentence(run, photos):
    paint(photos / "images" / "more" / "00.png", "red")
    paint(photos / "images" / "even" / "x.png", "red")
    assert Captions(str(photos), "train"), "00.png is named in full"
    shutil.move(photos / "images" / "00.png", photos / "images" / "even" / "00.png")
    assert "00.png twice, as even/00.png and more/00.png" in run("train", "captions", *SMALL).err
    (photos / "a.json").write_text("[]")
    (photos / "captions.txt").rename(photos / "b.json")
    assert "there are a.json and b.json" in run("train", "captions", *SMALL).err
    shutil.rmtree(photos / "images")
    given = run("train", "captions", *SMALL)
    assert given.code == 3 and "no pictures in photos" in given.err
    shutil.rmtree(photos)
    given = run("train", "captions", *SMALL)
    assert given.code == 3 and "photos does not exist" in given.err and given.err.count("\n") == 1


def test_normalised_pictures_are_refused(run, photos):
    transform = "[{name: Resize, size: [8, 8]}, {name: Normalize, mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}]"
    given = run("train", "captions", *SIGHT, *REST, f"--data.transform.train={transform}")
    assert given.code == 2 and "Captions needs pictures in [0, 1]" in given.err


# The decoder


def decoder(vocabulary: int = 9, features: int = 4, seed: int = 0, spread: float = 1.0, **options) -> CaptionDecoder:
    torch.manual_seed(seed)
    net = CaptionDecoder(vocabulary, features, **{"embedding": 6, "width": 8, **options}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(spread)
    return net


def log_probability(net: CaptionDecoder, features, sentence: list[int], limit: int) -> float:
    """Of a sentence and, unless it was cut off, of its end."""
    words = torch.tensor([[1, *sentence, 2]])
    logits = net(features[None], torch.tensor([0]), words[:, :-1], [len(sentence) + 1]).double().log_softmax(1)
    chosen = logits.gather(1, words[0, 1:, None])[:, 0]
    return float(chosen[: -1 if len(sentence) == limit else None].sum().detach())


@pytest.mark.parametrize("options", [{}, {"layers": 2, "shared_embedding": True}, {"attention": True}])
def test_packed_sentences_are_computed_as_if_alone(options):
    net = decoder(**options)
    features = torch.randn(2, 5, 4) if "attention" in options else torch.randn(2, 4)
    photos, words, lengths = torch.tensor([1, 0, 1]), torch.randint(1, 9, (3, 7)), [7, 4, 1]
    packed = nn.utils.rnn.PackedSequence(
        net(features, photos, words, lengths),
        *nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True)[1:],
    )
    together, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    for i, length in enumerate(lengths):
        own = features[photos[i : i + 1]]
        alone = net(own, torch.tensor([0]), words[i : i + 1, :length], [length])
        assert torch.allclose(together[i, :length], alone, atol=1e-6)
        carried, places = net.enter(own)
        for t in range(length):
            logits, carried = net.step(words[i : i + 1, t], carried, places)
            assert torch.allclose(logits[0], alone[t], atol=1e-6)
    words[1, 4:] = 0
    assert torch.equal(net(features, photos, words, lengths), packed.data), "what fills up counts for nothing"


def test_attention_sees_places_whose_mean_tells_nothing():
    """Of the two pictures every mean is 0: only who looks at the places can say which one it is."""
    pictures = torch.tensor([[[3.0, 0.0], [-3.0, 0.0]], [[0.0, 3.0], [0.0, -3.0]]])  # [2, places, features]
    words, photos = torch.tensor([[1, 4, 2], [1, 5, 2]]), torch.tensor([0, 1])
    net = decoder(features=2, attention=True).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(60):
        F.cross_entropy(net(pictures, photos, words[:, :1], [1, 1]), words[:, 1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert search(net.eval(), pictures, 3, 1)[0] == [[4], [5]]
    assert search(net, pictures[:, [0, 0]] * 0, 3, 1)[0] in ([[4], [4]], [[5], [5]])


@pytest.mark.parametrize("width", [6, 8])
def test_a_shared_embedding_is_one_parameter_stored_once(tmp_path, width):
    apart, shared = (decoder(500, width=width, shared_embedding=value) for value in (False, True))
    assert shared.output.weight is shared.embedding.weight and apart.output.weight is not apart.embedding.weight
    before = shared.embedding.weight.clone()
    shared.train()(torch.randn(1, 4), torch.tensor([0]), torch.tensor([[1]]), [1])[0, 7].backward()
    assert shared.output.weight.grad[7].abs().sum() > 0 and shared.embedding.weight.grad[1].abs().sum() > 0
    assert shared.save(tmp_path / "a.pth").stat().st_size < apart.save(tmp_path / "b.pth").stat().st_size - 500 * 5 * 4
    other = decoder(500, seed=1, width=width, shared_embedding=True)
    other.load(tmp_path / "a.pth")
    assert torch.equal(other.output.weight, before) and other.output.weight is other.embedding.weight
    with pytest.raises(ValueError, match="layers >= 1"):
        decoder(layers=0)


def test_a_beam_of_one_takes_the_likeliest_word_each_time():
    for seed in range(20):
        net, features = decoder(seed=seed, spread=4), torch.randn(3, 4)
        found, scores = search(net, features, 1, 6)
        for feature, sentence, score in zip(features, found, scores, strict=True):
            (state, places), word, expected = net.enter(feature[None]), 1, []
            while len(expected) < 6:
                logits, state = net.step(torch.tensor([word]), state, places)
                logits[0, [0, 1, 3, *([] if expected else [2])]] = -math.inf
                word = int(logits.argmax())
                if word == 2:
                    break
                expected.append(word)
            assert sentence == expected
            assert score == pytest.approx(log_probability(net, feature, sentence, 6), abs=1e-5)


def test_a_wider_beam_never_scores_below_greedy_and_often_above():
    better = 0
    for seed in range(150):
        net, features = decoder(30, seed=seed, spread=5), torch.randn(4, 4)
        (_, greedy), (found, wide) = search(net, features, 1, 8), search(net, features, 3, 8)
        assert all(b >= a for a, b in zip(greedy, wide, strict=True))
        better += sum(b > a + 1e-6 for a, b in zip(greedy, wide, strict=True))
        assert wide[0] == pytest.approx(log_probability(net, features[0], found[0], 8), abs=1e-4)
        assert all(1 <= len(s) <= 8 and not {0, 1, 2, 3} & set(s) for s in found)
    assert better > 100


def test_a_beam_as_wide_as_all_beginnings_finds_the_likeliest_sentence():
    for seed in range(5):
        net, features = decoder(7, seed=seed, spread=3), torch.randn(2, 4)
        every = [list(s) for n in (1, 2, 3) for s in product((4, 5, 6), repeat=n)]
        found, scores = search(net, features, 60, 3)
        for feature, sentence, score in zip(features, found, scores, strict=True):
            best = max(every, key=lambda s: log_probability(net, feature, s, 3))
            assert sentence == best and score == pytest.approx(log_probability(net, feature, best, 3), abs=1e-5)


# BLEU


def test_bleu_is_nltks():
    bleu_score = pytest.importorskip("nltk.translate.bleu_score")
    draw = random.Random(0)
    for size in (1, 3, 40):
        for order in (1, 2, 3, 4):
            meter, parts, written, meant = Bleu(order), [Bleu(order), Bleu(order)], [], []
            for i in range(size):
                references = [draw.choices("abcd", k=draw.randint(1, 12)) for _ in range(draw.randint(1, 5))]
                sentence = [*draw.choice(references)[:6], *draw.choices("abcde", k=draw.randint(0, 6))]
                meter.add(sentence, references)
                parts[i % 2].add(sentence, references)
                written.append(sentence)
                meant.append(references)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = bleu_score.corpus_bleu(meant, written, weights=(1 / order,) * order)
            assert meter.value() == pytest.approx(expected, abs=1e-9)
            parts[0].merge(json.loads(json.dumps(parts[1].state())))
            assert parts[0].value() == meter.value()


def test_bleu_of_nothing_and_of_the_whole():
    meter = Bleu()
    assert meter.value() is None
    meter.add([], [["a"]])
    assert meter.value() == 0
    whole = Bleu(2)
    whole.add(["a", "b", "c"], [["a", "b", "c"], ["d"]])
    assert whole.value() == 1
    with pytest.raises(ValueError, match="needs a reference"):
        whole.add(["a"], [])


# The task


def test_the_encoder_is_torchvisions_without_its_last_layer(tmp_path):
    torch.manual_seed(1)
    whole = models.resnet18().eval()
    torch.save(whole.state_dict(), tmp_path / "net.pth")
    encoder = ImageEncoder("resnet18", weights=str(tmp_path / "net.pth")).train()
    pictures = torch.rand(2, 3, 40, 40)
    whole.fc = nn.Identity()
    normalised = v2.functional.normalize(pictures, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(encoder(pictures), whole(normalised), atol=1e-4)
    assert encoder(pictures).shape == (2, 512) and not encoder(pictures).requires_grad
    assert torch.equal(encoder.net.bn1.running_mean, whole.bn1.running_mean), "frozen statistics do not move"


@pytest.mark.parametrize(("size", "wanted"), [((200, 133), [64, 64]), ((75, 90), [96, 96]), ((50, 50), [32, 48])])
def test_a_photo_is_fitted_as_training_pictures_are(size, wanted):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8))
    fitted = fit(image, wanted)
    assert fitted.size == (wanted[1], wanted[0])
    if wanted[0] == wanted[1]:
        usual = v2.Compose([v2.Resize(wanted[0]), v2.CenterCrop(wanted[0])])(image)
        assert np.array_equal(np.asarray(fitted), np.asarray(usual))


def test_the_loss_is_the_mean_over_all_words(photos):
    data = Captions(str(photos), "val").with_features(torch.randn(8, 4))
    data.captions[0] = [torch.tensor([1, 4, 2])]  # one word: a mean over captions would be another one
    net = decoder(len(data.vocabulary))
    task = Captioning(nn.Identity(), net, data.vocabulary).eval()
    meters = task.meters()
    for batch in ([0], [1, 2, 3, 4, 5, 6, 7]):
        task.val_step(data.collate([data[i] for i in batch]), meters)
    total = count = 0
    for i in range(8):
        for caption in data.captions[i]:
            logits = net(data[i][0][None], torch.tensor([0]), caption[None, :-1], [len(caption) - 1])
            total, count = (
                total + F.cross_entropy(logits, caption[1:], reduction="sum").item(),
                count + len(caption) - 1,
            )
    assert meters["loss"].value() == pytest.approx(total / count, rel=1e-5)


def test_a_share_of_what_is_read_is_the_decoders_own():
    net = decoder(40, spread=5)
    task = Captioning(nn.Identity(), net, sampling=0.8, sampling_steps=10)
    features, photos, lengths = torch.randn(1, 4), torch.zeros(300, dtype=torch.int64), [7] * 299 + [3]
    words = torch.randint(4, 40, (1, 8)).repeat(300, 1)
    torch.manual_seed(0)
    mixed = task._mixed(features, photos, words[:, :-1], lengths, 0.5)
    assert torch.equal(mixed[:, 0], words[:, 0])
    logits = net(features, photos[:1], words[:1, :-1], [7])
    for t in range(1, 7):
        drawn = (1 - 0.5) * F.one_hot(words[0, t], 40) + 0.5 * logits[t - 1].softmax(0)
        counts = torch.bincount(mixed[:-1, t], minlength=40) / 299
        assert (counts - drawn).abs().max() < 0.12, t
    read = []
    task._loss = lambda features, photos, inputs, words, lengths: read.append(inputs) or torch.zeros(())
    for step in (0, 5, 1000):
        task.train_step((features, words, lengths, photos), Nothing(step))
    shares = [(inputs != words[:, :-1]).float().mean().item() for inputs in read]
    assert shares[0] == 0 and 0.2 < shares[1] < 0.4 < shares[2] < 0.8, shares


def test_features_are_standardised_over_the_training_set():
    task = Captioning(nn.Identity(), decoder())
    features = torch.randn(50, 4) * torch.tensor([1.0, 1e-4, 0.0, 30.0]) + torch.tensor([0.0, 1.0, 7.0, -9.0])
    task.adapt(features)
    seen = task._standardised(features)
    assert torch.allclose(seen.mean(0), torch.zeros(4), atol=1e-3)
    assert torch.allclose(seen.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0, 1.0]), atol=1e-2)
    assert task._standardised(features[:1] + 1000).tolist()[0][:3] == [5.0, 5.0, 5.0]
    assert set(task.state_dict()) >= {"mean", "std"} and "shown" not in task.state_dict()


@pytest.mark.learns
def test_it_learns_to_tell_colours_and_generates_from_the_checkpoint_alone(run, photos, tmp_path):
    given = run("train", "captions", "--run=a", *SMALL, "--max-epoch=30", "--lr=0.02", "--model.decoder.dropout=0")
    assert given.code == 0, given.err
    # Which of the two captions it is nobody can foresee: ln 2 in some 5 words each.
    best = min(rows("a", phase="val"), key=lambda row: row["loss"])
    assert best["loss"] < 0.4 and best["bleu4"] > 0.9, best
    assert any("(a person: " in row["text"] for row in rows("a", phase="show"))
    given = run("val", "checkpoints/a")
    assert given.code == 0 and float(given.out.split("loss ")[1].split()[0]) == pytest.approx(best["loss"], rel=1e-6)
    given = run("test", "checkpoints/a", "--test-data-root=photos/images")
    assert given.code == 0, given.err
    lines = (tmp_path / "checkpoints" / "a" / "submission.csv").read_text().splitlines()
    told = {row["id"]: row["caption"] for row in csv.DictReader(lines)}
    assert len(told) == 24 and all(list(COLOURS)[int(name[:2]) % 4] in told[name] for name in told), told
    (photos / "images" / "03.png").rename(tmp_path / "photo.png")
    shutil.rmtree(photos)
    shutil.rmtree(tmp_path / "checkpoints" / ".features")
    given = run("generate", "checkpoints/a", "--test-img=photo.png")
    assert (given.code, given.out.strip()) == (0, told["03.png"]), given.err
    assert "grey" in run("generate", "checkpoints/a", "--test-img=photo.png", "--beam=1").out


def test_what_cannot_be_told_gets_a_sentence(run, photos):
    assert run("train", "captions", "--run=a", *SMALL, "--train.max_steps=1").code == 0
    given = run("generate", "checkpoints/a", "--test-img=absent.jpg")
    assert given.code == 3 and "cannot read the picture absent.jpg" in given.err
    given = run("generate", "checkpoints/a", "--test-img=photos/images/00.png", "--beam=0")
    assert given.code == 2 and "it must be at least 1" in given.err
    assert "needs --test-img" in run("generate", "checkpoints/a").err
    assert "task.beam must be at least 1" in run("train", "captions", *SMALL, "--task.beam=0").err
    assert "task.sampling must be from 0 to 1" in run("train", "captions", *SMALL, "--task.sampling=2").err
    args = [arg for arg in SMALL if "feature_size" not in arg]
    given = run("train", "captions", *args, "--model.decoder.feature_size=7")
    assert given.code == 2 and "it takes 7 features, but MLP gives 24; set model.decoder.feature_size" in given.err


def test_it_runs_in_half_precision(run, photos):
    own = ["--task.sampling=0.5", "--task.sampling_steps=2", "--train.max_steps=4", "--train.precision=bf16"]
    given = run("train", "captions", "--run=a", *SMALL, *own)
    assert given.code == 0, given.err
    assert run("generate", "checkpoints/a", "--test-img=photos/images/00.png").out.strip()


@pytest.mark.parametrize("steps", [1, 6, 9])
def test_stopped_and_resumed_it_is_the_same_run(run, photos, steps):
    own = ["--task.sampling=0.5", "--task.sampling_steps=4"]
    args = ["captions", "--max-epoch=3", "--model.decoder.dropout=0.3", "--train.ema=0.9", *own, *SMALL]
    assert run("train", "--run=whole", *args).code == 0
    total = rows("whole")[-1]["step"]  # which a run that is to be cut short cannot know
    cut = [f"--train.max_steps={steps}", f"--schedule.decoder.total_steps={total}"]
    assert run("train", "--run=cut", *args, *cut).code == 0
    given = run("train", "--resume=checkpoints/cut", "--train.max_steps=null")
    assert given.code == 0, given.err
    assert same_run(state("cut"), state("whole"))
    assert rows("cut", phase="train") == rows("whole", phase="train")
    assert rows("cut", phase="val")[-1] == rows("whole", phase="val")[-1]
    assert torch.equal(state("cut")["buffers"]["std"], state("whole")["buffers"]["std"])


@pytest.mark.slow
def test_killed_it_resumes_from_the_last_save(killed_and_resumed, photos):
    args = ["captions", "--max-epoch=6", "--model.decoder.dropout=0.3", "--train.save_steps=3", *SMALL]
    killed_and_resumed(*args, after=12)


@pytest.mark.slow
def test_the_shipped_command_starts(run, photos):
    args = ["--data.dataset.root=photos", "--weights=none", "--run=a", *PLAIN]
    given = run("train", "captions", *args, "--train.max_steps=3")
    assert given.code == 0, given.err
    given = run("generate", "checkpoints/a", "--test-img=photos/images/00.png", "--train.max_steps=3")
    assert given.code == 0 and given.out.strip(), given.err
    given = run("train", "captions", "--data.dataset.root=photos", *PLAIN)
    assert given.code == 3 and "the weights of resnet50 are not at checkpoints/resnet50-11ad3fa6.pth" in given.err


# Real photos


def interpolated_bigram(train: Captions, val: Captions) -> float:
    """Nats a word of the captions of `val`, their ends and unknown words included, the best of some weights.

    P(b | a) = w count(ab) / count(a) + (1 - w) P(b), with P(b) smoothed by adding one. It is counted on what the
    network learns from: a word that was found once is the unknown one in half of its counts.
    """
    single, pairs, before = Counter(), Counter(), Counter()
    rare = set(train.rare.tolist())
    for caption in (caption.tolist() for captions in train.captions for caption in captions):
        for share, words in (
            (1 - UNKNOWN_RATE, caption),
            (UNKNOWN_RATE, [UNKNOWN if n in rare else n for n in caption]),
        ):
            single.update({b: share * n for b, n in Counter(words[1:]).items()})
            for a, b in pairwise(words):
                pairs[a, b] += share
                before[a] += share
    held = [pair for captions in val.captions for caption in captions for pair in pairwise(caption.tolist())]
    size = sum(single.values()) + len(train.vocabulary)
    alone = np.array([(single[b] + 1) / size for _, b in held])
    after = np.array([pairs[a, b] / max(before[a], 1e-9) for a, b in held])
    return min(-np.log(w * after + (1 - w) * alone).mean() for w in np.arange(0.05, 1.0, 0.05))


real = pytest.mark.skipif(not FLICKR.is_dir(), reason="the photos are absent")


@pytest.mark.slow
@pytest.mark.chapter
@real
def test_forty_photos_are_learned_by_heart(run, tmp_path):
    heart = [
        "--data.dataset.photos=40",
        "--data.dataset.val_fraction=0",
        "--model.decoder.dropout=0",
        "--max-epoch=100",
    ]
    args = [f"--data.dataset.root={FLICKR}", "--weights=none", *heart, *PLAIN]
    assert run("train", "captions", "--run=a", *args, "--train.monitor=bleu4").code == 0
    best = max(row["bleu4"] for row in rows("a", phase="val"))
    said = run("test", "checkpoints/a", f"--test-data-root={FLICKR}")
    assert said.code == 0, said.err
    train = Captions(str(FLICKR), "train", photos=40, val_fraction=0)
    lines = (tmp_path / "checkpoints" / "a" / "submission.csv").read_text().splitlines()
    told = {row["id"]: row["caption"] for row in csv.DictReader(lines)}
    captions = [told[name] for name in train.ids]
    assert best > 0.8 and len(set(captions)) >= 30, (best, captions)
    shuffled = Bleu(4)
    for i, caption in enumerate(captions):  # each photo is told by the features of another one
        shuffled.add(caption.split(), words_of(train, (i + 1) % 40))
    assert shuffled.value() < 0.5 * best, shuffled.value()


@pytest.mark.slow
@pytest.mark.chapter
@real
def test_on_real_photos_it_beats_an_interpolated_bigram(run):
    given = run("train", "captions", "--run=a", f"--data.dataset.root={FLICKR}", "--weights=none", *PLAIN)
    assert given.code == 0, given.err
    loss = min(row["loss"] for row in rows("a", phase="val"))
    train = Captions(str(FLICKR), "train")
    val = Captions(str(FLICKR), "val", vocabulary=train.vocabulary)
    assert (len(train), len(val)) == (400, 200) and len(train.vocabulary) > 2000
    bigram = interpolated_bigram(train, val)
    assert loss <= 4.0 and loss < bigram, (loss, bigram)
    photo = FLICKR / "images" / val.ids[0]
    assert run("generate", "checkpoints/a", f"--test-img={photo}").out.strip()


def test_flickr30k_file_of_pipes_is_read(tmp_path):
    """As published: spaces around the pipes, commas and quotation marks in a caption, and a line that lacks a pipe."""
    for name in ("1", "2", "3"):
        paint(tmp_path / f"images/{name}.jpg", "red")
    lines = ["image_name| comment_number| comment", '1.jpg| 0| A "red" wall , seen .', "2.jpg| 4   A wall runs ."]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    data = Captions(str(tmp_path), "train", val_fraction=0)
    assert data.ids == ["2.jpg", "1.jpg"] or data.ids == ["1.jpg", "2.jpg"]
    told = {name: words_of(data, i) for i, name in enumerate(data.ids)}
    assert told == {"1.jpg": [["a", "red", "wall", "seen"]], "2.jpg": [["a", "wall", "runs"]]}
    assert data.facts.left_out == {"a photo without captions": ["3.jpg"]}
    assert "the same photos to train and to validate" in data.facts.source
    (tmp_path / "results.csv").write_text("\n".join([*lines, "3.jpg"]) + "\n")
    with pytest.raises(DataError, match="results.csv:4: is not photo.jpg| number| caption"):
        Captions(str(tmp_path), "train")


def test_validation_on_other_photos_scores_all_of_them(photos, tmp_path):
    vocabulary = Captions(str(photos), "train").vocabulary
    shutil.copytree(photos, tmp_path / "others")
    whole = Captions(str(tmp_path / "others"), "val", vocabulary=vocabulary, whole=True, val_fraction=0, photos=4)
    assert len(whole) == 24 and whole.facts.source.endswith("others/images")
    every = Captions(str(photos), "val", vocabulary=vocabulary, val_fraction=1)
    assert len(every) == 24, "what validates may be all photos, where nothing is trained"
    alone = tmp_path / "alone"
    paint(alone / "images/1.jpg", "red")
    (alone / "captions.txt").write_text("image,caption\n1.jpg,a red wall\n")
    assert len(Captions(str(alone), "val", vocabulary=vocabulary, whole=True)) == 1
