// The file that the page's AudioWorklet loads.
import { Capture } from "./capture.js";
import { Player } from "./player.js";
import { scope } from "./scope.js";

scope.registerProcessor("capture", Capture);
scope.registerProcessor("player", Player);
