// Colours by theme: blue and orange stay apart for every kind of colour blindness, and match the package's figures.

const LIGHT = {
  left: "#1f77d0",
  right: "#f07f13",
  middle: "#6b6b6b",
  guess: "#ffffff",
  gridMain: "#b9c0c9",
  grid: "#dde1e6",
};

const DARK = {
  left: "#5aa9f5",
  right: "#ffa04d",
  middle: "#b4bac2",
  guess: "#1b1f25",
  gridMain: "#4b535e",
  grid: "#2f353d",
};

const darkPage = () => window.matchMedia("(prefers-color-scheme: dark)");

/** The colours of "light", "dark" or "auto", which asks the browser. */
export function paletteOf(theme) {
  return isDark(theme) ? DARK : LIGHT;
}

export function isDark(theme) {
  return theme === "dark" || (theme !== "light" && darkPage().matches);
}

/** Calls back when the browser changes between light and dark; returns the function that ends it. */
export function onThemeChange(callback) {
  const query = darkPage();
  query.addEventListener("change", callback);
  return () => query.removeEventListener("change", callback);
}
