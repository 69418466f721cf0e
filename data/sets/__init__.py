"""The data sets by name: an entry is all that commands, tables and reports need of one."""

from data.sets import folder, llcm, regdb, sysu
from data.sets.value import DataSet

DATASETS: dict[str, DataSet] = {
    dataset.name: dataset for dataset in (sysu.DATASET, regdb.DATASET, llcm.DATASET, folder.DATASET)
}
