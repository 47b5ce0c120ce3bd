"""Embeddings in Milvus, here in Milvus Lite: the primary key is the column int_id.

pip install pymilvus milvus-lite pyarrow
python with_milvus.py embeddings.parquet faces.db
"""

import sys

import pyarrow.parquet as pq
from pymilvus import DataType, MilvusClient


def load(file, client):
    """The name of the collection, made anew; one for each model: embeddings of two models never meet."""
    parquet = pq.ParquetFile(file)
    name = f"faces_{parquet.schema_arrow.metadata[b'facekd.model_id'].decode()}"
    schema = client.create_schema(auto_id=False)
    schema.add_field("int_id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=parquet.schema_arrow.field("embedding").type.list_size)
    for text in ("id", "identity", "source"):
        schema.add_field(text, DataType.VARCHAR, max_length=4096, nullable=text == "identity")
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    if client.has_collection(name):  # it may hold photos that are gone
        client.drop_collection(name)
    client.create_collection(name, schema=schema, index_params=index)
    for rows in parquet.iter_batches(1000, columns=["int_id", "embedding", "id", "identity", "source"]):
        client.insert(name, rows.to_pylist())
    client.load_collection(name)
    return name


def search(file, query, k=5, place="faces.db"):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    client = MilvusClient(str(place))
    name = load(file, client)
    table = pq.read_table(file, columns=["id", "int_id"])
    one = table["int_id"][table["id"].index(query).as_py()].as_py()
    vector = client.get(name, [one], output_fields=["embedding"])[0]["embedding"]
    found = client.search(name, data=[vector], limit=k, output_fields=["id"])[0]
    client.close()
    return [(hit["entity"]["id"], hit["distance"]) for hit in found]


if __name__ == "__main__":
    first = pq.read_table(sys.argv[1], columns=["id"])["id"][0].as_py()
    for one, score in search(sys.argv[1], first, 5, *sys.argv[2:3]):
        print(f"{score:.4f}  {one}")
