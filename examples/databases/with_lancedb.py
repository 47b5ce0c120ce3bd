"""Embeddings in LanceDB: the Parquet file as it is. Given again, it takes what is new, has changed or is gone.

pip install lancedb pyarrow
python with_lancedb.py embeddings.parquet faces.lancedb
"""

import sys

import lancedb
import pyarrow.parquet as pq


def load(file, place):
    """A table for each model: embeddings of two models never meet."""
    rows = pq.read_table(file)
    name = f"faces_{rows.schema.metadata[b'facekd.model_id'].decode()}"
    database = lancedb.connect(place)
    try:
        table = database.open_table(name)
    except ValueError:  # there is none yet
        return database.create_table(name, rows)
    updated = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    updated.when_not_matched_by_source_delete().execute(rows)  # these are gone
    return table


def search(file, query, k=5, place="faces.lancedb"):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    table = load(file, place)
    one = table.search().where(f"id = '{query}'").limit(1).to_list()[0]["embedding"]
    found = table.search(one).distance_type("cosine").limit(k).to_list()
    return [(row["id"], 1 - row["_distance"]) for row in found]


if __name__ == "__main__":
    first = pq.read_table(sys.argv[1], columns=["id"])["id"][0].as_py()
    for one, score in search(sys.argv[1], first, 5, *sys.argv[2:3]):
        print(f"{score:.4f}  {one}")
