"""A small table of houses, as Kaggle gives one, for the tests of tables."""

from data.tabular import Tabular

HEADER = "Id,Area,Rooms,Zone,Garage,Name,Price"
TRAIN = [  # ten houses: an area with a gap, a zone that occurs once, a garage whose NA is a meaning
    "1,100,3,A,NA,'Mr. Hill',1000",
    "2,200,4,B,Big,'Mrs. Dale',2000",
    "3,NA,3,A,NA,'Mr. Lake',1500",
    "4,400,5,B,Small,'Miss. Ford',4000",
    "5,150,3,A,Big,'Mr. Wood',1600",
    "6,250,4,B,NA,'Mrs. Moor',2600",
    "7,300,4,A,Small,'Mr. Peak',3000",
    "8,350,5,C,Big,'Mr. Glen',3600",
    "9,120,3,A,NA,'Miss. Bank',1200",
    "10,180,4,B,Big,'Mrs. Cove',1900",
]
TEST = ["11,110,,A,NA,'Mr. Ness',", "12,5000,4,Z,None,'Dr. Firth',"]


def table(folder, train=TRAIN, test=TEST, header=HEADER):
    """A folder as Kaggle gives it; the test file has no target."""
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_text("\n".join([header, *train]).replace("'", '"') + "\n", encoding="utf-8")
    lines = [line.rpartition(",")[0] for line in [header, *test]]
    (folder / "test.csv").write_text("\n".join(lines).replace("'", '"') + "\n", encoding="utf-8")
    return str(folder)


COLUMNS = {"ignore": ["Name"], "log": ["Price"]}


def house(root, split="train", columns=COLUMNS, **options):
    return Tabular(root, split, **{"target": "Price", "id": "Id", "columns": columns, **options})


def feature(dataset, name):
    """The statistic of a column, and its values in the inputs."""
    at = 0
    for statistic in dataset.statistics["features"]:
        width = len(statistic["values"]) if "values" in statistic else 1 + statistic["gaps"]
        if statistic["column"] == name:
            return statistic, dataset.inputs[:, at : at + width]
        at += width
    raise KeyError(name)
