"""Files of the trade, read and written, apart from what they are filled with."""
