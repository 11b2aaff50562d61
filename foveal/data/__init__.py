"""Data sets in three parts: digits, distortions with their ground truth, folders, IDX files, preprocessing."""
