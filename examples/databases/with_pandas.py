"""Embeddings in pandas: who is nearest to a photo.

pip install pandas
python with_pandas.py embeddings.parquet
"""

import sys

import numpy as np
import pandas as pd


def search(file, query, k=5):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    frame = pd.read_parquet(file).set_index("id")
    vectors = np.stack(frame["embedding"])  # float32[N, D] of unit norm, so that a product is a cosine
    frame["score"] = vectors @ frame.loc[query, "embedding"]
    return list(frame["score"].nlargest(k).items())


if __name__ == "__main__":
    first = pd.read_parquet(sys.argv[1], columns=["id"])["id"][0]
    for one, score in search(sys.argv[1], first):
        print(f"{score:.4f}  {one}")
