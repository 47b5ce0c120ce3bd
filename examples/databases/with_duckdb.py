"""Embeddings in DuckDB, by SQL over the Parquet file itself: nothing is loaded or copied.

pip install duckdb
python with_duckdb.py embeddings.parquet
"""

import sys

import duckdb

NEAREST = """
    SELECT other.id, array_inner_product(other.embedding::FLOAT[{dim}], one.embedding::FLOAT[{dim}]) AS score
    FROM read_parquet($file) AS other, read_parquet($file) AS one
    WHERE one.id = $query ORDER BY score DESC LIMIT $k
"""  # of unit norm, so that an inner product is a cosine


def search(file, query, k=5):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    (dim,) = duckdb.execute("SELECT len(embedding) FROM read_parquet($file) LIMIT 1", {"file": str(file)}).fetchone()
    return duckdb.execute(NEAREST.format(dim=dim), {"file": str(file), "query": query, "k": k}).fetchall()


if __name__ == "__main__":
    first = duckdb.execute("SELECT id FROM read_parquet($file) LIMIT 1", {"file": sys.argv[1]}).fetchone()[0]
    for one, score in search(sys.argv[1], first):
        print(f"{score:.4f}  {one}")
