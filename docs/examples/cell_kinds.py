"""Write a CSV file with the kinds of cells in each photograph of BCCD, by the boxes of its Pascal VOC annotations.

python docs/examples/cell_kinds.py BCCD labels.csv
"""

import csv
import re
import sys
from pathlib import Path

root, output = Path(sys.argv[1]), Path(sys.argv[2])
rows = []
for path in sorted((root / "Annotations").glob("*.xml")):
    kinds = set(re.findall(r"<object>\s*<name>(\w+)</name>", path.read_text()))
    photograph = (root / "JPEGImages" / path.with_suffix(".jpg").name).resolve()
    rows.append([photograph, "|".join(sorted(kinds))])
with output.open("w", newline="") as file:
    csv.writer(file).writerows([["image", "labels"], *rows])
print(f"{output}: {len(rows)} photographs")
