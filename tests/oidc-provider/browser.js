// A user with a browser: follows redirects, keeps cookies, logs in and consents by posting the server's own forms.

/** Goes to an address; answers the URL at `stopAt` that it is sent to in the end. */
export async function visit(address, stopAt) {
  const cookies = new Map();
  let url = new URL(address);
  let form;
  for (let steps = 0; steps < 20; steps += 1) {
    const response = await fetch(url, {
      method: form ? 'POST' : 'GET',
      body: form,
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair] = cookie.split(';');
      const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    const location = response.headers.get('location');
    if (location) {
      url = new URL(location, url);
      form = undefined;
      if (url.href.startsWith(stopAt)) return url;
      continue;
    }
    const page = await response.text();
    const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1];
    const action = /action="([^"]+)"/.exec(page)?.[1];
    if (!prompt || !action) throw new Error(`${response.status} at ${url}: no form of the server's in ${page}`);
    url = new URL(action, url);
    form = new URLSearchParams(prompt === 'login' ? { prompt, login: 'ada', password: 'any' } : { prompt });
  }
  throw new Error(`the browser is sent around and around: ${url}`);
}
