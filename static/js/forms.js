// Requests: what a failed one shows, stale answers dimmed, resubmission, controls that submit their form.

export function setUpForms() {
  document.addEventListener("htmx:sendError", () => notify("The server does not answer.", "Check that it runs; this page stays usable and can be tried again."));
  document.addEventListener("htmx:timeout", () => notify("The server took too long.", "Try again."));
  document.addEventListener("htmx:beforeRequest", (event) => event.detail.target?.classList.add("busy"));
  document.addEventListener("htmx:afterRequest", (event) => event.detail.target?.classList.remove("busy"));
  document.addEventListener("htmx:beforeSwap", onProblem);
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && event.target.matches?.("[data-reload]")) location.reload();
  });
  document.addEventListener("htmx:configRequest", (event) => {
    if (!event.target.matches?.("form[data-filters]")) return; // an address names only what differs from the defaults
    for (const [name, value] of [...event.detail.parameters]) {
      if (value === "" || (name === "sort" && value === "index")) event.detail.parameters.delete(name);
    }
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    const text = form?.elements.text;
    if (form && event.target.matches("select, [type=checkbox]") && (!text || text.tagName !== "TEXTAREA" || text.value)) form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const again = event.target.closest("[data-resubmit]");
    if (!again) return;
    const result = again.closest("[id]");
    const form = document.querySelector(`form[hx-target="#${result.id}"]`) ?? document.querySelector("form[data-main]");
    if (!form) return;
    if (again.dataset.resubmit === "truncate") setField(form, "truncate", "1");
    form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => { copy.textContent = "Copied"; });
  });
  document.addEventListener("click", (event) => {
    const removing = event.target.closest("[data-remove]");
    if (removing) removing.closest(removing.dataset.remove).remove();
    const going = event.target.closest("[data-navigate]");
    if (going) {
      event.preventDefault();
      const pairs = [...new FormData(going.form)].filter(([name, value]) => value && name !== "csrfmiddlewaretoken");
      location.assign(`${going.formAction}?${new URLSearchParams(pairs)}`);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || !event.target.matches?.("[data-enter-submits]")) return;
    event.preventDefault();
    event.target.form.requestSubmit();
  });
  document.addEventListener("input", (event) => {
    const knob = event.target.closest(".knob");
    if (!knob) return;
    for (const other of knob.querySelectorAll("[data-mirror]")) if (other !== event.target) other.value = event.target.value;
  });
}

/** A whole-page error in answer to a fragment goes to the notices, not into the middle of the page. */
function onProblem(event) {
  const { xhr, target } = event.detail;
  if (xhr.status < 400) return;
  if (xhr.getResponseHeader("X-Facet-Fragment") === "problem" && target?.matches("[id$='result'], [id$='hits']")) return;
  event.detail.target = document.getElementById("notices");
  event.detail.swapOverride = "innerHTML";
  if (!xhr.getResponseHeader("X-Facet-Fragment")) {
    event.detail.shouldSwap = false;
    notify(`The server answered ${xhr.status}.`, "Reload the page; if it goes on, look at the server's log.");
  }
}

export function notify(cause, remedy) {
  const box = document.createElement("div");
  box.className = "problem";
  const [first, second] = [document.createElement("p"), document.createElement("p")];
  first.append(Object.assign(document.createElement("strong"), { textContent: cause }));
  second.textContent = remedy;
  box.append(first, second);
  document.getElementById("notices").replaceChildren(box);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("#notices") && !event.target.closest("a, button")) document.getElementById("notices").replaceChildren();
});

function setField(form, name, value) {
  let field = form.elements[name];
  if (!field) {
    field = Object.assign(document.createElement("input"), { type: "hidden", name });
    form.append(field);
  }
  if (field.type === "checkbox") field.checked = true;
  else field.value = value;
}
