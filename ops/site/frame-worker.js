// No browser runs a worker that is a file on disk. There the search of the site runs in a hidden
// frame instead, which has of a worker what that search uses.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow;
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.importScripts = (...sources) =>
        sources.reduce((before, source) => before.then(() => this.#load(source)), Promise.resolve());
      this.inner = inner;
      this.ready = this.#load(url);
    }

    #load(source) {
      const script = this.inner.document.createElement("script");
      script.src = new URL(source, location.href);
      return new Promise((done) => {
        script.onload = done;
        this.inner.document.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
