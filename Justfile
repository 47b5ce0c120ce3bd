# The verbs of a developer's day.

install:
    pip install -e '.[test]'

test *args:
    pytest {{args}}

lint:
    .ci/lint

quickstart:
    facekd quickstart

bench:
    python benchmarks/align.py && python benchmarks/rates.py && python benchmarks/intervals.py

docs:
    mkdocs serve
