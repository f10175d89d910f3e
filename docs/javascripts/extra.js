// the theme makes the copy button of each code block a landmark of the page
new MutationObserver(() => {
  document.querySelectorAll("nav.md-code__nav:not([role])").forEach((nav) => nav.setAttribute("role", "none"));
}).observe(document.body, { childList: true, subtree: true });
