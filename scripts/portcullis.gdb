# SPDX-License-Identifier: MIT OR Apache-2.0
# Commands for scripts/gdb. They work whatever `set language` says.

define boot_refusal
  with language c -- printf "refusal: %s\n", (const char *) &boot_refusal
  with language c -- printf "console: %s\n", (const char *) &boot_console
end
document boot_refusal
Show why the image refused to start, and which console it drives.
Both are empty while all is well and the device tree has not been read.
end
