import { effect } from "@preact/signals";
import { render } from "preact";
import { readAbout } from "./call/about.js";
import { watchDevices } from "./call/devices.js";
import { live } from "./call/live.js";
import { takeTokenOfAddress } from "./state/token.js";
import { App } from "./view/app.js";
import { watchKeys } from "./view/keys.js";
import "./style/base.css";
import "./style/layout.css";
import "./style/conversation.css";
import "./style/panes.css";
import "./style/setup.css";

takeTokenOfAddress();
live.start();
watchDevices();
watchKeys();
addEventListener("hashchange", () => live.useTokenOfAddress()); // a link followed in the same tab
addEventListener("pagehide", () => void live.end());
render(<App />, document.getElementById("app")!);
effect(() => {
  // Again with every call: another gateway may answer than did at first.
  if (["idle", "connected"].includes(live.session.state.value)) void readAbout();
});
