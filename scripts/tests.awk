# Reads the output of go test -v=test2json: prints each package's closing line
# as it comes, the whole output of what failed, and at the end what was skipped
# and "N passed, N failed, N skipped" (tests and subtests). Exits 1 if anything
# failed, if no test ran, or with no_skip=1 if any was skipped.
#
# Lines of the test framework start with the control character SYN; what tests
# print can't be mistaken for them.

BEGIN { SYN = sprintf("%c", 22) }

# Keeps a line of the package that is being read, under the test it belongs to.
function keep(line) {
  lines++
  text[lines] = line
  owner[lines] = current
}

function forget() {
  delete text
  delete owner
  delete state
  lines = 0
  current = ""
  package_failed = 0
}

# Prints all that a failed package said, but for what passed or was skipped.
function report(  i, s) {
  for (i = 1; i <= lines; i++) {
    s = state[owner[i]]
    if (s != "PASS" && s != "SKIP") print text[i]
  }
}

# The last thing that a test said, which is why it skipped itself.
function reason(name,  i) {
  for (i = lines; i > 0; i--) if (owner[i] == name) return ":" text[i]
  return ""
}

# Ends a package: a test that began and has no end was cut off, and a package
# that failed without a failed test counts as one failure.
function finish(ok, line,  t, word) {
  split(line, word, "\t")
  for (; named < skipped; named++) skips[named + 1] = word[2] " " skips[named + 1]
  if (!ok) {
    for (t in state) if (state[t] == "RUN") { failed++; package_failed = 1 }
    if (!package_failed) failed++
    report()
  }
  print line
  fflush()
  forget()
}

{
  at = index($0, SYN)
  if (at > 0) {
    # A test that ends its output without a newline has its text in front.
    if (at > 1) keep(substr($0, 1, at - 1))
    mark = substr($0, at + 1)
  } else {
    mark = ""
  }
}

mark ~ /^=== (RUN|CONT|NAME|PAUSE|ATTR|ARTIFACTS) / {
  split(mark, word, " +")
  current = word[3]
  if (word[2] == "RUN") state[current] = "RUN"
  next
}

mark ~ /^ *--- (PASS|FAIL|SKIP|BENCH): / {
  split(mark, word, " +")
  i = word[1] == "" ? 2 : 1
  result = substr(word[i + 1], 1, 4)
  name = word[i + 2]
  state[name] = result
  current = name
  if (result == "FAIL") { failed++; package_failed = 1; keep(mark) }
  if (result == "PASS") passed++
  if (result == "SKIP") skips[++skipped] = name reason(name)
  next
}

mark ~ /^FAIL\t/ { finish(0, mark); next }
mark != "" { next } # PASS or FAIL of a whole test binary

/^ok  \t/ { finish(1, $0); next }
/^FAIL\t/ { finish(0, $0); next }
/^\?   \t/ { finish(1, $0); next }
/^\t[^ \t]+\t\tcoverage: / { finish(1, $0); next }
/^(PASS|FAIL)$/ { next }

{ keep($0) }

END {
  # What is left belongs to no package: the go command's own words.
  for (i = 1; i <= lines; i++) print text[i]
  for (i = 1; i <= skipped; i++) print "skipped: " skips[i]
  if (passed + failed == 0) {
    print "no test ran"
    failed = 1
  }
  printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
  exit (failed > 0 || (no_skip && skipped > 0))
}
