"""Embeddings in polars: who is nearest to a photo.

pip install polars
python with_polars.py embeddings.parquet
"""

import sys

import polars as pl


def search(file, query, k=5):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    frame = pl.read_parquet(file)
    vectors = frame["embedding"].to_numpy()  # float32[N, D] of unit norm, so that a product is a cosine
    one = frame["id"].index_of(query)
    scored = frame.select("id", score=pl.Series(vectors @ vectors[one]))
    return scored.top_k(k, by="score").sort("score", descending=True).rows()


if __name__ == "__main__":
    first = pl.read_parquet(sys.argv[1], columns=["id"])["id"][0]
    for one, score in search(sys.argv[1], first):
        print(f"{score:.4f}  {one}")
