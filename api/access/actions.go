package access

// Action is something that a client may be allowed to do.
type Action uint8

// The actions. What is said of pins and drafts is of the client's own unless it
// says any.
const (
	// Import takes in a block.
	Import Action = iota + 1
	// SetAnchor gives an empty store the state that its tree starts from.
	SetAnchor
	// SetHead says which block is best.
	SetHead
	// Finalize says which block is final.
	Finalize
	// UseDrafts begins drafts, reads, writes, renews and drops them.
	UseDrafts
	// CommitDraft imports a draft as a block.
	CommitDraft
	// SeeDrafts lists all drafts, whoever has them.
	SeeDrafts
	// DropAnyDraft drops a draft, whoever has it.
	DropAnyDraft
	// Pin keeps a block readable, renews and ends that.
	Pin
	// PinDirectory gets a pin's directory, which holds the whole state: also
	// needed is that Table.ReadsAll.
	PinDirectory
	// SeePins lists all pins, whoever has them.
	SeePins
	// DropAnyPin ends a pin, whoever has it.
	DropAnyPin
	// SeeLocks lists the locked slots and by whom.
	SeeLocks
	// ReadState reads values, scans, diffs, histories and proofs: also needed is
	// that Table.MayRead each key.
	ReadState
	// ReadItems reads items by their hash: who knows that may have what it is of.
	ReadItems
	// PutItem has the store keep an item.
	PutItem
	// ReadBlocks lists the tree: hashes, slots and roots.
	ReadBlocks
	// ReadEvents follows what happens to the tree.
	ReadEvents
	// ReadMetrics reads figures and the service's status.
	ReadMetrics
	// ReadConfig reads the effective configuration.
	ReadConfig
	// SetLogLevel changes how much is logged.
	SetLogLevel
	// Profile reads the program's own profiles (pprof).
	Profile
	actionsEnd
)

// everyone is what each role may do: the tree is public to all that have a role.
const everyone = All

// allowed says which roles may do an action; nobody may what isn't in it.
var allowed = [actionsEnd]Roles{
	Import:       Of(Importing),
	SetAnchor:    Of(Importing),
	SetHead:      Of(Importing, Operator),
	Finalize:     Of(Importing, Operator),
	UseDrafts:    Of(Importing, Producing),
	CommitDraft:  Of(Importing, Producing),
	SeeDrafts:    Of(Operator),
	DropAnyDraft: Of(Operator),
	Pin:          activities,
	PinDirectory: activities,
	SeePins:      Of(Operator),
	DropAnyPin:   Of(Operator),
	SeeLocks:     everyone,
	ReadState:    activities,
	ReadItems:    activities,
	PutItem:      Of(Importing),
	ReadBlocks:   everyone,
	ReadEvents:   everyone,
	ReadMetrics:  everyone,
	ReadConfig:   Of(Operator),
	SetLogLevel:  Of(Operator),
	Profile:      Of(Operator),
}

// actionNames are the actions as an answer names them.
var actionNames = [actionsEnd]string{
	Import:       "import",
	SetAnchor:    "set-anchor",
	SetHead:      "set-head",
	Finalize:     "finalize",
	UseDrafts:    "use-drafts",
	CommitDraft:  "commit-draft",
	SeeDrafts:    "see-drafts",
	DropAnyDraft: "drop-any-draft",
	Pin:          "pin",
	PinDirectory: "pin-directory",
	SeePins:      "see-pins",
	DropAnyPin:   "drop-any-pin",
	SeeLocks:     "see-locks",
	ReadState:    "read-state",
	ReadItems:    "read-items",
	PutItem:      "put-item",
	ReadBlocks:   "read-blocks",
	ReadEvents:   "read-events",
	ReadMetrics:  "read-metrics",
	ReadConfig:   "read-config",
	SetLogLevel:  "set-log-level",
	Profile:      "profile",
}

// May says whether any role of the set may do an action.
func (s Roles) May(a Action) bool { return s&a.Roles() != 0 }

// Roles gives those that may do the action.
func (a Action) Roles() Roles {
	if a >= actionsEnd {
		return 0
	}
	return allowed[a]
}

// imports says whether the action brings blocks, state or items into the store.
func (a Action) imports() bool {
	return a == Import || a == SetAnchor || a == CommitDraft || a == PutItem
}

// String gives the action's name, such as read-state.
func (a Action) String() string {
	if a == 0 || a >= actionsEnd {
		return "unknown"
	}
	return actionNames[a]
}
