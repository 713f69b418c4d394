// Entry of every page: each module binds its own data attributes by delegation, so swapped fragments need no set-up.
import { setUpContexts } from "./contexts.js";
import { setUpForms } from "./forms.js";
import { setUpKeys } from "./keys.js";
import { setUpRibbon } from "./ribbon.js";
import { setUpSteering } from "./steering.js";
import { setUpTheme } from "./theme.js";
import { setUpTooltip } from "./tooltip.js";

document.documentElement.classList.add("scripted");
setUpTheme();
setUpTooltip();
setUpKeys();
setUpContexts();
setUpForms();
setUpRibbon();
setUpSteering();
