import { useSignalEffect } from "@preact/signals";
import { settings } from "../state/settings.js";
import { narrow, replay, session, tab } from "../state/view.js";
import { Dock } from "./dock.js";
import { DropZone } from "./drop.js";
import { Faults } from "./faults.js";
import { Header, isDark } from "./header.js";
import { Help } from "./help.js";
import { Latency } from "./latency.js";
import { Messages } from "./messages.js";
import { ReplayBar } from "./replay_bar.js";
import { Setup } from "./setup.js";
import { Split } from "./split.js";
import { TabList, TabPanel } from "./tabs.js";
import { Transcript } from "./transcript.js";
import { Wave } from "./wave.js";

export function App() {
  useSignalEffect(() => {
    document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
    void settings.value;
  });
  return (
    <>
      <Header />
      {narrow.value ? <Narrow /> : <Wide />}
      <DropZone />
      <Help />
    </>
  );
}

function Bar() {
  return replay.value ? <ReplayBar player={replay.value} /> : <Dock />;
}

function Panels() {
  return (
    <>
      <TabPanel name="latency">
        <Latency />
      </TabPanel>
      <TabPanel name="messages">
        <Messages />
      </TabPanel>
      <TabPanel name="faults">
        <Faults />
      </TabPanel>
      <TabPanel name="setup">
        <Setup />
      </TabPanel>
    </>
  );
}

function Wide() {
  return (
    <main class="wide">
      <section class="conversation" aria-label="Talk">
        <Transcript />
        <Bar />
      </section>
      <Split />
      <section class="panes" aria-label="What happens inside">
        <Wave />
        <TabList />
        <Panels />
      </section>
    </main>
  );
}

function Narrow() {
  // Where there is little room, the waveform comes with the first call.
  const { link } = session.value.timeline.value;
  return (
    <main class="narrow">
      <TabPanel name="talk">
        <Transcript />
        {link.length > 0 && <Wave />}
        <Bar />
      </TabPanel>
      <Panels />
      {tab.value !== "talk" && replay.value && <ReplayBar player={replay.value} />}
      <TabList />
    </main>
  );
}
