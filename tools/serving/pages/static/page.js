// What makes the page quicker to use; every search works without it.
"use strict";

const say = (text) => { document.getElementById("say").textContent = text; };
document.documentElement.classList.add("scripted");

// The filters stay open where there is room for them.
const filters = document.querySelector(".filters");
if (filters && window.matchMedia("(min-width: 62rem)").matches) filters.open = true;

const form = document.querySelector(".upload");
if (form) {
  const input = form.querySelector("input[type=file]");
  const preview = document.getElementById("preview");
  const limit = Number(form.dataset.limit);
  let shown = null;

  const show = () => {
    if (shown) URL.revokeObjectURL(shown);
    shown = null;
    preview.hidden = true;
    const file = input.files[0];
    if (!file) return;
    if (file.size > limit) {
      input.value = "";
      say(`${file.name} has more than ${limit / 2 ** 20} MB, the most that is taken. Make it smaller.`);
      return;
    }
    shown = URL.createObjectURL(file);
    preview.src = shown;
    preview.hidden = false;
    say(`${file.name} is chosen. Choose its modality, then search.`);
  };

  const take = (files) => {
    const file = [...files].find((each) => each.type.startsWith("image/"));
    if (!file) {
      say("That is no image.");
      return;
    }
    const chosen = new DataTransfer();
    chosen.items.add(file);
    input.files = chosen.files;
    show();
    form.scrollIntoView({ block: "nearest" });
    form.querySelector("input[type=radio]:checked").focus();
  };

  preview.addEventListener("error", () => { preview.hidden = true; });
  input.addEventListener("change", show);
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });

  const button = form.querySelector("button");
  form.addEventListener("submit", () => {
    button.setAttribute("aria-busy", "true");
    say("Searching …");
  });
  // Also where the browser shows a page again that it has kept.
  window.addEventListener("pageshow", () => {
    button.removeAttribute("aria-busy");
    say("");
    if (input.files.length) show();
  });
}
