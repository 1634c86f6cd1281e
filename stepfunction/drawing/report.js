"use strict";
{
  const rows = [...document.querySelectorAll(".row")];
  const search = document.getElementById("search");
  const trouble = document.getElementById("trouble");
  const count = document.getElementById("count");

  const filter = () => {
    const text = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = row.dataset.name.includes(text)
        && (!trouble.checked || row.classList.contains("trouble"));
      row.hidden = !fits;
      shown += fits;
    }
    const isAll = shown === rows.length;
    count.textContent = isAll ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };

  const reveal = (row) => {
    row.hidden = false;
    row.open = true;
    row.scrollIntoView({ block: "center" });
    row.firstElementChild.focus({ preventScroll: true });
  };

  const move = (from, by) => {
    let index = rows.indexOf(from);
    do index += by; while (rows[index]?.hidden);
    rows[index]?.firstElementChild.focus();
  };

  const openAll = (isOpen) => {
    for (const row of rows) if (!row.hidden) row.open = isOpen;
  };

  if (search) {
    document.querySelector(".tools").hidden = false;
    search.addEventListener("input", filter);
    trouble.addEventListener("change", filter);
    document.getElementById("open").addEventListener("click", () => openAll(true));
    document.getElementById("close").addEventListener("click", () => openAll(false));
    filter();  // a browser may have kept what was typed
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !search) return;
    const row = event.target.closest?.("summary")?.parentElement;
    if (event.key === "/" && event.target !== search) {
      search.focus();
      search.select();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      filter();
    } else if (event.key === "Enter" && event.target === search) {
      const first = rows.find((it) => !it.hidden);
      if (first) reveal(first);
    } else if (event.key === "ArrowDown" && event.target === search) {
      move(undefined, 1);
    } else if (row && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      move(row, event.key === "ArrowDown" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });

  const follow = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row?.classList.contains("row")) reveal(row);
  };
  addEventListener("hashchange", follow);
  follow();
  for (const link of document.querySelectorAll('a[href^="#r"]')) {
    link.addEventListener("click", () => {  // also where it was followed before
      if (link.hash === location.hash) follow();
    });
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = rows.filter((row) => !row.open);
    for (const row of closed) row.open = true;
  });
  addEventListener("afterprint", () => {
    for (const row of closed) row.open = false;
  });
}
