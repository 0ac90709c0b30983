// What forms and buttons do beyond HTML; every page works without it, but for trying calls.
import { prepare } from "/static/trying.js";

export const KEPT = "wherry-key";

function textOf(id) {
  const source = document.getElementById(id);
  return source.value ?? source.textContent;
}

function say(text) {
  const place = document.getElementById("copied");
  if (place) place.textContent = text;
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText(textOf(id));
    say("Copied.");
  } catch {
    document.getElementById(id).select?.();
    say("Press Ctrl+C to copy.");
  }
}

document.addEventListener("click", (event) => {
  const { copy: source, keep } = event.target.dataset;
  if (source) copy(source);
  if (keep) {
    sessionStorage.setItem(KEPT, textOf(keep));
    say("Kept until this tab is closed.");
  }
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target.dataset.sends === "change") event.target.form.requestSubmit();
});

for (const field of document.querySelectorAll("[data-guess=timezone]")) {
  if (field.value === "UTC") field.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
}

document.querySelector("[aria-invalid=true]")?.focus();

const form = document.getElementById("try");
if (form) prepare(form, sessionStorage.getItem(KEPT) ?? "");
