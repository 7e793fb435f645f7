"""The book's and its repository's spellings that are other names here: each with the one thing to type instead."""

__all__ = ["BOOK"]

ROOT = "--data.dataset.root=FOLDER names the data; --train-data-root and --test-data-root those of one split"
SIZE = "data.transform.train and data.transform.eval list Resize and CenterCrop with a size"
CHECKPOINT = "--load-model-path=FILE begins with weights; val, test and generate take the run: checkpoints/NAME"
NAMED = "a run is the folder checkpoints/NAME, named by --run=NAME"
NETWORKS = "train.load: {generator: FILE, discriminator: FILE} begins with both; generate takes a run, which holds both"
NO_GPU = "write --no-use-gpu"

# By chapter; those that are keys here, or words of the field, are not listed.
CHAPTER_6 = {
    "data_root": ROOT,
    "load_path": CHECKPOINT,
    "nouse_gpu": NO_GPU,
}
CHAPTER_7 = {
    "beta1": "the first of optim.generator.betas and of optim.discriminator.betas, as [0.5, 0.999]",
    "data_path": ROOT,
    "image_size": SIZE,
    "lr1": "did you mean 'optim.generator.lr'?",
    "lr2": "did you mean 'optim.discriminator.lr'?",
    "netd_path": NETWORKS,
    "netg_path": NETWORKS,
    "nogpu": NO_GPU,
    "save_path": "pictures are written into the run's folder, checkpoints/NAME, named by --run=NAME",
}
CHAPTER_8 = {"epoches": "did you mean 'train.max_epoch'?", "model_path": CHECKPOINT}
CHAPTER_9 = {
    "author": "poems are not chosen by author; data.dataset.files chooses files",
    "category": "data.dataset.files chooses files, as poet.tang.*.json",
    "constrain": "poems are not chosen by length; data.dataset.length is the length of a window",
    "maxlen": "did you mean 'data.dataset.length'?",
    "model_prefix": NAMED,
    "pickle_path": "--data.dataset.root=tang.npz reads the book's file",
    "use_env": "did you mean 'log.visdom'?",
}
READ = "words and photos are read below data.dataset.root, features are computed once and kept"
CHAPTER_10 = {
    "caption_data_path": READ,
    "embedding_dim": "did you mean 'model.decoder.embedding'?",
    "img_feature_path": READ,
    "img_features_path": READ,
    "img_path": READ,
    "img_size": SIZE,
    "model_ckpt": CHECKPOINT,
    "num_layers": "did you mean 'model.decoder.layers'?",
    "prefix": NAMED,
    "rnn_hidden": "did you mean 'model.decoder.width'?",
    "scale_size": SIZE,
    "share_embedding_weights": "did you mean 'model.decoder.shared_embedding'?",
}
GENERATED = ["gen_img", "gen_num", "gen_search_num", "gen_mean", "gen_std", "content_path", "result_path"]
GENERATED += ["max_gen_len", "prefix_words", "start_words", "acrostic", "test_img"]
BOOK = CHAPTER_6 | CHAPTER_7 | CHAPTER_8 | CHAPTER_9 | CHAPTER_10
BOOK |= {
    name: f"it is a flag of generate: python main.py generate CHECKPOINT --{name.replace('_', '-')}=…"
    for name in GENERATED
}
