// The call that a developer tries: put together here, sent by the portal to the gateway.

const guard = () => document.querySelector("meta[name=guard]").content;
const byId = (id) => document.getElementById(id);
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function fieldsOf(form, role) {
  return [...form.querySelectorAll(`[data-role=${role}]`)];
}

function segment(field) {
  if (field.value === "") return `{${field.dataset.name}}`;
  if (!("rest" in field.dataset)) return encodeURIComponent(field.value);
  return field.value.split("/").map(encodeURIComponent).join("/");
}

function pathOf(form) {
  let path = form.dataset.path;
  for (const field of fieldsOf(form, "path")) {
    path = path.replace(`{${field.dataset.name}}`, () => segment(field));
  }
  const query = new URLSearchParams();
  for (const field of fieldsOf(form, "query")) {
    if (field.value !== "") query.append(field.dataset.name, field.value);
  }
  return query.size ? `${path}?${query}` : path;
}

function headersOf(form) {
  const headers = fieldsOf(form, "header")
    .filter((field) => field.value !== "")
    .map((field) => [field.dataset.name, field.value]);
  for (const line of (fieldsOf(form, "more")[0]?.value ?? "").split("\n")) {
    const [, name, value] = line.match(/^\s*([^:\s]+)\s*:\s*(.*?)\s*$/) ?? [];
    if (name) headers.push([name, value]);
  }
  return headers;
}

function callOf(form) {
  const headers = headersOf(form);
  const body = fieldsOf(form, "body")[0]?.value || null;
  if (body && !headers.some(([name]) => name.toLowerCase() === "content-type")) {
    headers.push(["Content-Type", form.dataset.media]);
  }
  const host = fieldsOf(form, "host")[0]?.value || null;
  return { method: form.dataset.method, path: pathOf(form), headers, body, host };
}

function withKey(form, call) {
  const key = fieldsOf(form, "key")[0]?.value.trim();
  const { keyKind: kind, keyName: name } = form.dataset;
  if (!key) return call;
  if (kind === "query") {
    const joint = call.path.includes("?") ? "&" : "?";
    return { ...call, path: `${call.path}${joint}${name}=${encodeURIComponent(key)}` };
  }
  const value = kind === "basic" ? `Basic ${btoa(`${key.split("_")[1]}:${key}`)}` : key;
  return { ...call, headers: [...call.headers, [name, value]] };
}

function curlOf(form, call) {
  const { keyKind: kind, keyName: name } = form.dataset;
  const joint = call.path.includes("?") ? "&" : "?";
  const secret = kind === "query" ? `"${joint}${name}=$KEY"` : "";
  const lines = [`curl -X ${call.method} ${quoted(form.dataset.gateway + call.path)}${secret}`];
  if (call.host) lines.push(`-H ${quoted(`Host: ${call.host}`)}`);
  if (kind === "header") lines.push(`-H "${name}: $KEY"`);
  if (kind === "basic") lines.push('-u "$(echo "$KEY" | cut -d_ -f2):$KEY"');
  for (const [each, value] of call.headers) lines.push(`-H ${quoted(`${each}: ${value}`)}`);
  if (call.body) lines.push(`--data ${quoted(call.body)}`);
  return lines.join(" \\\n  ");
}

function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function showAnswer(seen) {
  const verdict = byId("verdict");
  verdict.textContent = `${seen.status} ${seen.reason} in ${seen.milliseconds} ms`;
  verdict.className = `verdict s${String(seen.status)[0]}`;
  byId("answer-headers").textContent = seen.headers.map(([n, v]) => `${n}: ${v}`).join("\n");
  const more = seen.whole ? "" : "\n… the rest is not shown";
  const body = seen.is_text ? readable(seen.body) : `${seen.body}\n(base64)`;
  byId("answer-body").textContent = body + more;
  byId("answer-head").hidden = false;
  byId("answer-pre").hidden = seen.body === "";
}

function showFailure(text) {
  const verdict = byId("verdict");
  verdict.textContent = text;
  verdict.className = "verdict s5";
  byId("answer-head").hidden = byId("answer-pre").hidden = true;
}

async function send(form) {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  byId("verdict").textContent = "Sending …";
  try {
    const answer = await fetch(form.dataset.action, {
      method: "POST",
      headers: {
        Accept: "application/json",
        "Content-Type": "application/json",
        "X-Guard": guard(),
      },
      body: JSON.stringify(withKey(form, callOf(form))),
    });
    const said = await answer.json();
    if (answer.ok) showAnswer(said);
    else showFailure(said.detail);
  } catch {
    showFailure("The portal gave no answer.");
  } finally {
    button.disabled = false;
  }
}

export function prepare(form, key) {
  for (const field of fieldsOf(form, "key")) field.value = key;
  const show = () => {
    byId("curl").textContent = curlOf(form, callOf(form));
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show();
    send(form);
  });
  show();
}
