// Light or dark before anything is drawn: as chosen here, else as the system says.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const dark = () => (stored() ? stored() === "dark" : system.matches);

  function show() {
    if (stored()) root.dataset.theme = stored();
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.setAttribute("aria-pressed", String(dark()));
  }

  show();
  system.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme")?.addEventListener("click", () => {
      const chosen = dark() ? "light" : "dark";
      root.dataset.theme = chosen;
      try {
        localStorage.setItem("theme", chosen);
      } catch {
        // Kept for this page only.
      }
      document.getElementById("theme").setAttribute("aria-pressed", String(chosen === "dark"));
    });
  });
})();
