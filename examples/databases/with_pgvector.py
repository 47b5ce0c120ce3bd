"""Embeddings in Postgres with pgvector: columns uuid, int_id and embedding, by a binary COPY.

pip install "psycopg[binary]" pgvector pyarrow
python with_pgvector.py embeddings.parquet "dbname=faces"
"""

import sys
from uuid import UUID

import numpy as np
import psycopg
import pyarrow.parquet as pq
from pgvector import Vector
from pgvector.psycopg import register_vector

TABLE = """
    CREATE TABLE IF NOT EXISTS {name}
    (uuid uuid PRIMARY KEY, int_id bigint UNIQUE, id text, identity text, source text, embedding vector({dim}))
"""
COLUMNS = {"uuid": "uuid", "int_id": "int8", "id": "text", "identity": "text", "source": "text", "embedding": "vector"}


def load(file, database):
    """The name of the table, made anew; one for each model: embeddings of two models never meet."""
    parquet = pq.ParquetFile(file)
    name = f"faces_{parquet.schema_arrow.metadata[b'facekd.model_id'].decode()}"
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(database)
    with database.transaction(), database.cursor() as cursor:
        cursor.execute(TABLE.format(name=name, dim=parquet.schema_arrow.field("embedding").type.list_size))
        cursor.execute(f"TRUNCATE {name}")
        with cursor.copy(f"COPY {name} ({', '.join(COLUMNS)}) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(list(COLUMNS.values()))
            for rows in parquet.iter_batches(1000, columns=list(COLUMNS)):
                for row in rows.to_pylist():
                    copy.write_row(as_row(row))
    return name


def as_row(row):
    """A row of the Parquet file as the types of the table."""
    return [UUID(row["uuid"]), *list(row.values())[1:-1], Vector(np.array(row["embedding"], np.float32))]


def search(file, query, k=5, place="dbname=faces"):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    with psycopg.connect(place) as database:
        name = load(file, database)
        # <#> is minus the inner product, and that of unit vectors is the cosine.
        nearest = f"""
            SELECT other.id, -(other.embedding <#> one.embedding) FROM {name} other, {name} one
            WHERE one.id = %s ORDER BY other.embedding <#> one.embedding LIMIT %s
        """
        return database.execute(nearest, (query, k)).fetchall()


if __name__ == "__main__":
    first = pq.read_table(sys.argv[1], columns=["id"])["id"][0].as_py()
    for one, score in search(sys.argv[1], first, 5, *sys.argv[2:3]):
        print(f"{score:.4f}  {one}")
