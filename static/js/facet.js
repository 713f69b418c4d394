// Entry of every page: each module binds its own data attributes by delegation, so swapped fragments need no set-up.
import { setUpContexts } from "./contexts.js";
import { setUpForms } from "./forms.js";
import { setUpKeys } from "./keys.js";
import { setUpRibbon } from "./ribbon.js";
import { setUpRuns } from "./runs.js";
import { setUpSteering } from "./steering.js";
import { setUpTheme } from "./theme.js";
import { setUpTooltip } from "./tooltip.js";
import { setUpTraced } from "./traced.js";

document.documentElement.classList.add("scripted");
setUpTheme();
setUpTooltip();
setUpKeys();
setUpContexts();
setUpForms();
setUpRibbon();
setUpSteering();
setUpTraced();
setUpRuns();
