({
  // Text whose contrast with what lies behind it is below 4.5 to 1; text of disabled controls is exempt.
  faint() {
    const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
        if (a === 1) return [r, g, b];
      }
      return [255, 255, 255];
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
      if (element.closest(":disabled, script, noscript, .out, .js-plotly-plot")) continue;
      const style = getComputedStyle(element);
      if (style.visibility === "hidden") continue;
      const [light, dark] = [luminance(channels(style.color)), luminance(behind(element))].sort((x, y) => y - x);
      const ratio = (light + 0.05) / (dark + 0.05);
      if (ratio < 4.5) found.add(`${ratio.toFixed(2)} ${this.name(element)}: ${element.textContent.trim().slice(0, 30)}`);
    }
    return [...found];
  },

  // Text below 12 pixels.
  smallText() {
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const small = [...document.querySelectorAll("body *")].filter(
      (element) =>
        hasText(element) &&
        element.getClientRects().length &&
        parseFloat(getComputedStyle(element).fontSize) < 12 &&
        !element.closest(".js-plotly-plot"),
    );
    return [...new Set(small.map((element) => this.name(element)))];
  },

  // Controls lower than 24 pixels; links inside sentences and lines of a document are exempt (WCAG 2.5.8).
  smallTargets() {
    const controls = document.querySelectorAll("button, input:not([type=hidden]), select, summary, .button");
    const small = [...controls].filter(
      (element) =>
        element.getClientRects().length &&
        element.getBoundingClientRect().height < 23.5 &&
        !element.closest("p, .out, .js-plotly-plot, .pick, label.row"),
    );
    return [...new Set(small.map((element) => `${element.getBoundingClientRect().height} ${this.name(element)}`))];
  },

  // Pixels by which the page is wider than the window.
  excess() {
    return document.documentElement.scrollWidth - innerWidth;
  },

  name(element) {
    return `${element.tagName}.${element.className}`;
  },
})
