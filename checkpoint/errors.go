package checkpoint

import "errors"

// Errors of the store and its engines. Match them with errors.Is.
var (
	// ErrEmpty: the directory holds no store yet.
	ErrEmpty = errors.New("no store here")
	// ErrExists: the directory holds a store already, or something else.
	ErrExists = errors.New("directory is not empty")
	// ErrFormat: the store was written by another version or another program.
	ErrFormat = errors.New("unknown store format")
	// ErrInUse: another process owns the store.
	ErrInUse = errors.New("store is in use by another process")
	// ErrNoRecords: deltas are there, and blocks/ is not.
	ErrNoRecords = errors.New("block records are missing")
	// ErrWouldLose: Recover found deltas that can't be used.
	ErrWouldLose = errors.New("deltas can't be used")
	// ErrUndecided: whether the block is held is known after the next start.
	ErrUndecided = errors.New("the disk failed while the block was recorded; open the store again")
	// ErrUnsuitable: the directory can't do what the store needs.
	ErrUnsuitable = errors.New("directory is not suitable for a store")
	// ErrEngine: the storage engine doesn't behave as the store needs.
	ErrEngine = errors.New("unsuitable storage engine")

	// ErrUnknown: no such block in the store.
	ErrUnknown = errors.New("unknown block")
	// ErrLocked: another process has the checkpoint open for writing.
	ErrLocked = errors.New("checkpoint is locked by another process")
	// ErrMissing: the block should have a checkpoint, and it is gone.
	ErrMissing = errors.New("checkpoint is missing")
	// ErrUnsealed: the block's checkpoint was never sealed.
	ErrUnsealed = errors.New("checkpoint was not sealed")
	// ErrPruned: the block's checkpoint was removed on purpose.
	ErrPruned = errors.New("checkpoint was pruned")
	// ErrDelta: a write set, which nothing can make again, is damaged or missing.
	ErrDelta = errors.New("write set can't be used")
	// ErrPartial: the anchor's whole state is not there yet, and that is needed.
	ErrPartial = errors.New("the state is only partly here")
	// ErrDamaged: contents are other than recorded.
	ErrDamaged = errors.New("contents are damaged")

	// ErrHeads: HEADS doesn't say what head and finalized are.
	ErrHeads = errors.New("head and finalized can't be told")

	// ErrLimit: a key, a value or a write set exceeds the store's limits.
	ErrLimit = errors.New("over the limit")
	// ErrWriteSet: a write set that makes no sense.
	ErrWriteSet = errors.New("contradictory write set")
	// ErrNoSpace: the file system is full.
	ErrNoSpace = errors.New("no space left")
	// ErrLinks: a file has as many hard links as the file system allows.
	ErrLinks = errors.New("too many hard links")
	// ErrAccess: who may read a pinned directory can't be set as asked.
	ErrAccess = errors.New("access can't be set")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store is closed")
)
