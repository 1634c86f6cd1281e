"use strict";
// Searches, opens and prints the rows of every report in the page, which is complete
// without it.
{
  const isTyping = (element) => Boolean(
    element.closest?.("input:not([type='checkbox']), textarea, select")
    || element.isContentEditable
  );

  const follow = (hash) => {
    let id = hash.slice(1);
    try {
      id = decodeURIComponent(id);
    } catch { /* what is no id leads nowhere */ }
    const row = document.getElementById(id);
    if (row?.matches(".stepfunction .sf-row")) {
      row.hidden = false;
      row.open = true;
      row.scrollIntoView({ block: "center" });
      row.firstElementChild.focus({ preventScroll: true });
    }
  };

  const equip = (report) => {
    const rows = [...report.querySelectorAll(".sf-row")];
    const search = report.querySelector(".sf-search");
    if (!search || report.dataset.isEquipped) return;
    report.dataset.isEquipped = "yes";
    const trouble = report.querySelector(".sf-only-trouble");
    const count = report.querySelector(".sf-count");

    const filter = () => {
      const text = search.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const fits = row.dataset.name.includes(text)
          && (!trouble.checked || row.classList.contains("sf-trouble"));
        row.hidden = !fits;
        shown += fits;
      }
      const isAll = shown === rows.length;
      count.textContent = isAll ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    };

    const move = (from, by) => {
      let index = rows.indexOf(from);
      do index += by; while (rows[index]?.hidden);
      rows[index]?.firstElementChild.focus();
    };

    const openAll = (isOpen) => {
      for (const row of rows) if (!row.hidden) row.open = isOpen;
    };

    report.querySelector(".sf-tools").hidden = false;
    search.addEventListener("input", filter);
    trouble.addEventListener("change", filter);
    report.querySelector(".sf-open").addEventListener("click", () => openAll(true));
    report.querySelector(".sf-close").addEventListener("click", () => openAll(false));
    filter();  // a browser may have kept what was typed

    report.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const row = event.target.closest("summary")?.parentElement;
      if (event.target === search) {
        if (event.key === "Escape") {
          search.value = "";
          filter();
        } else if (event.key === "Enter") {
          const first = rows.find((it) => !it.hidden);
          if (first) follow(`#${first.id}`);
        } else if (event.key === "ArrowDown") {
          move(undefined, 1);
        } else {
          return;
        }
      } else if (row && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        move(row, event.key === "ArrowDown" ? 1 : -1);
      } else {
        return;
      }
      event.preventDefault();
    });

    let closed = [];
    addEventListener("beforeprint", () => {
      closed = rows.filter((row) => !row.open);
      for (const row of closed) row.open = true;
    });
    addEventListener("afterprint", () => {
      for (const row of closed) row.open = false;
    });
  };

  const begin = () => {
    for (const report of document.querySelectorAll(".stepfunction.sf-steps")) equip(report);
    follow(location.hash);
  };

  if (!window.stepfunctionReports) {  // a page may load this more than once
    window.stepfunctionReports = true;
    addEventListener("hashchange", () => follow(location.hash));
    document.addEventListener("click", (event) => {  // also where it was followed before
      const link = event.target.closest?.(".stepfunction a[href^='#']");
      if (link && link.hash === location.hash) follow(link.hash);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.defaultPrevented || isTyping(event.target)) return;
      const here = event.target.closest?.(".stepfunction.sf-steps") ?? document;
      const search = here.querySelector(".sf-search");
      if (!search || !search.closest(".stepfunction")) return;
      search.focus();
      search.select();
      event.preventDefault();
    });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
    else begin();
  }
}
