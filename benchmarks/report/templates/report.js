"use strict";
// Draws the charts, saves them as pictures, and offers the recording for download. Vega's expressions are interpreted
// (option `ast`) and not compiled, so that the page's policy can forbid every script that is not its own.
{
  const bytes = Uint8Array.from(atob(document.getElementById("recording").textContent), (c) => c.charCodeAt(0));
  const recording = document.getElementById("download");
  if (recording) {
    recording.href = URL.createObjectURL(new Blob([bytes], { type: "application/x-ndjson" }));
    recording.hidden = false;
  }

  const ink = "currentColor"; // the page's own text colour, which differs in light, dark and print
  const config = {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: ink, titleColor: ink, gridColor: ink, gridOpacity: 0.12, domainColor: ink, domainOpacity: 0.35,
      tickColor: ink, tickOpacity: 0.35, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
      titlePadding: 10, labelPadding: 6,
    },
    axisY: { titleAngle: 0, titleAlign: "left", titleAnchor: "end", titleY: -12, titleX: 0 },
    legend: { labelColor: ink, labelFontSize: 12, symbolSize: 130, rowPadding: 5, columnPadding: 14 },
    text: { color: ink, fontSize: 12 },
    rule: { color: ink },
  };
  const specs = JSON.parse(document.getElementById("charts").textContent);
  for (const spec of Object.values(specs)) spec.config = config;
  const options = { ast: true, renderer: "svg", actions: false, tooltip: { theme: "custom" } };

  // A saved picture has a fixed width and the colours of print, whatever the page looks like at the moment.
  const saved = async (name, type) => {
    const text = JSON.stringify(specs[name]).replaceAll("currentColor", "#1d2126").replaceAll("var(--paper)", "#ffffff");
    const spec = { ...JSON.parse(text), width: 840, padding: 12, background: "#ffffff" };
    spec.config.background = "#ffffff";
    const { view } = await vegaEmbed(document.createElement("div"), spec, options);
    const link = document.createElement("a");
    link.href = await view.toImageURL(type, 2);
    link.download = `rosetta-${name}.${type}`;
    view.finalize();
    link.click();
  };

  const draw = (place) => {
    const name = place.id.replace("chart-", "");
    place.dataset.begun = "yes";
    vegaEmbed(place, specs[name], options)
      .then(() => { place.dataset.drawn = "yes"; })
      .catch((error) => { console.error(`${name}: ${error}`); place.textContent = "This chart could not be drawn."; });
  };

  // A chart inside a closed section has no width, so it is drawn when the section is opened.
  const drawOpen = () => {
    for (const place of document.querySelectorAll(".chart:not([data-begun])")) {
      if (!place.closest("details.folded:not([open])")) draw(place);
    }
  };

  for (const button of document.querySelectorAll("button[data-save]")) {
    button.hidden = false;
    button.addEventListener("click", () => saved(button.dataset.chart, button.dataset.save));
  }
  for (const folded of document.querySelectorAll("details.folded")) {
    folded.addEventListener("toggle", () => {
      drawOpen();
      window.dispatchEvent(new Event("resize")); // the page's width may have changed while the section was closed
    });
  }
  drawOpen();
}
