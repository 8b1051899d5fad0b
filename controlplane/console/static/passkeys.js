// Passkeys: the only thing on these pages that needs a script. Each block names what to ask and where to answer.
"use strict";
(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) return;

  const toBytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const toText = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const withBytes = (list) => (list || []).map((entry) => ({ ...entry, id: toBytes(entry.id) }));

  async function send(url, body) {
    const answer = await fetch(url, {
      method: "POST", credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
    });
    const said = await answer.json();
    if (answer.ok) return said;
    if (said.go) { location.assign(said.go); return new Promise(() => {}); }
    throw new Error(`${said.detail}. ${said.remedy}`);
  }

  async function create(options) {
    const made = await navigator.credentials.create({ publicKey: {
      ...options, challenge: toBytes(options.challenge), user: { ...options.user, id: toBytes(options.user.id) },
      excludeCredentials: withBytes(options.excludeCredentials),
    } });
    return answerOf(made, {
      clientDataJSON: toText(made.response.clientDataJSON),
      attestationObject: toText(made.response.attestationObject),
    });
  }

  async function get(options) {
    const found = await navigator.credentials.get({ publicKey: {
      ...options, challenge: toBytes(options.challenge), allowCredentials: withBytes(options.allowCredentials),
    } });
    const handle = found.response.userHandle;
    return answerOf(found, {
      clientDataJSON: toText(found.response.clientDataJSON),
      authenticatorData: toText(found.response.authenticatorData),
      signature: toText(found.response.signature),
      userHandle: handle && handle.byteLength ? toText(handle) : null,
    });
  }

  const answerOf = (key, response) => ({ id: key.id, rawId: toText(key.rawId), type: key.type, response });

  async function run(block) {
    const options = await send(block.dataset.options);
    const answer = block.dataset.passkey === "create" ? await create(options) : await get(options);
    const name = block.querySelector("input");
    const said = await send(block.dataset.answer, name ? { name: name.value, answer } : { answer });
    location.assign(said.next);
  }

  for (const block of document.querySelectorAll("[data-passkey]")) {
    const button = block.querySelector("button");
    const error = block.querySelector(".error");
    block.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      error.hidden = true;
      try {
        await run(block);
      } catch (cause) {
        error.textContent = cause.name === "NotAllowedError" ? "Nothing was chosen, or it took too long." : cause.message;
        error.hidden = false;
        error.focus();
      } finally {
        button.disabled = false;
      }
    });
  }
})();
