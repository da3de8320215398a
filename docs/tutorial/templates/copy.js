
// A button at each column that copies the column's code.
for (const column of document.querySelectorAll(".column")) {
  const button = Object.assign(document.createElement("button"), { className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    const lines = [...column.querySelectorAll(".line:not(.none)")].map((line) => line.textContent);
    await navigator.clipboard.writeText(lines.join("\n") + "\n");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  column.querySelector("h3").append(button);
}
