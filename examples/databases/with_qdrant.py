"""Embeddings in Qdrant, here in its local mode: the points' ids are the column uuid.

pip install qdrant-client pyarrow
python with_qdrant.py embeddings.parquet faces.qdrant
"""

import sys

import pyarrow.parquet as pq
from qdrant_client import QdrantClient, models


def load(file, client):
    """The name of the collection, made anew; one for each model: embeddings of two models never meet."""
    parquet = pq.ParquetFile(file)
    name = f"faces_{parquet.schema_arrow.metadata[b'facekd.model_id'].decode()}"
    size = parquet.schema_arrow.field("embedding").type.list_size
    if client.collection_exists(name):  # it may hold photos that are gone
        client.delete_collection(name)
    client.create_collection(name, models.VectorParams(size=size, distance=models.Distance.COSINE))
    for rows in parquet.iter_batches(1000, columns=["uuid", "embedding", "id", "identity", "source"]):
        columns = rows.to_pydict()
        ids, vectors = columns.pop("uuid"), columns.pop("embedding")
        payloads = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        client.upsert(name, models.Batch(ids=ids, vectors=vectors, payloads=payloads))
    return name


def search(file, query, k=5, place=":memory:"):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    client = QdrantClient(place) if place == ":memory:" else QdrantClient(path=place)
    name = load(file, client)
    table = pq.read_table(file, columns=["id", "uuid"])
    one = table["uuid"][table["id"].index(query).as_py()].as_py()
    vector = client.retrieve(name, [one], with_vectors=True)[0].vector
    found = client.query_points(name, query=vector, limit=k).points
    client.close()
    return [(point.payload["id"], point.score) for point in found]


if __name__ == "__main__":
    first = pq.read_table(sys.argv[1], columns=["id"])["id"][0].as_py()
    for one, score in search(sys.argv[1], first, 5, *sys.argv[2:3]):
        print(f"{score:.4f}  {one}")
