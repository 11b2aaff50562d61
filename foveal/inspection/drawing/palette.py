"""Colours of all drawings: the palette of Okabe and Ito (2008), safe for colour-blind readers, and two greys."""

BLACK = "#000000"
ORANGE = "#e69f00"
SKY_BLUE = "#56b4e9"
GREEN = "#009e73"
YELLOW = "#f0e442"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PURPLE = "#cc79a7"
GREY = "#767676"
LIGHT_GREY = "#999999"
PALE_ORANGE = "#f3c66b"  # for a range behind orange and blue
