"use strict";
// All cells opened or closed at once.

(function details() {
  const button = byId("open-all");
  const cells = [...document.querySelectorAll(".cell details")];
  function show(open) {
    for (const cell of cells) cell.open = open;
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? "Hide all details" : "Show all details";
  }
  button.addEventListener("click", () => show(button.getAttribute("aria-pressed") !== "true"));
  button.hidden = false;
})();
