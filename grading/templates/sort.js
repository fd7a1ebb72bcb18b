// Tables whose head is clicked, or reached by Tab and pressed, are sorted by that column; once more: the other way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const words = new Intl.Collator(undefined, { numeric: true });
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const value = row => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].map(row => [value(row), row]);
      // Cells without a value stay last in both directions.
      rows.sort(([a], [b]) => (a === "") - (b === "") || sign * words.compare(a, b));
      const numbers = rows.every(([text]) => text === "" || !isNaN(text));
      if (numbers) rows.sort(([a], [b]) => (a === "") - (b === "") || sign * (a - b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
