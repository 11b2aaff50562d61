"""Does it pay? Contenders are planned, run side by side, judged, and reported."""
