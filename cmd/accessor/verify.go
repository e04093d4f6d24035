package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"accessor/checkpoint"
	"accessor/forks"
)

func newVerify(e *env) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "verify --data DIR",
		Short: "Check every record, delta, checkpoint and root",
		Long: `Reads all that the store has on disk: records against deltas, sizes and checksums
of deltas, runs and images, the seal of every checkpoint; and recomputes the root
of the state at every block. Prints what is wrong, a line each; then the exit
status is 1. Nothing is changed.`,
		Example: "  accessor verify --data /var/lib/accessor",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			acc, done, err := e.openStore(data)
			if err != nil {
				return err
			}
			defer done()
			bar := newProgress(e.stderr, data)
			wrong, blocks, deltas := 0, 0, 0
			err = acc.Verify(cmd.Context(), func(_ forks.Block, err error) {
				wrong++
				if errors.Is(err, checkpoint.ErrDelta) {
					deltas++
				}
				fmt.Fprintln(e.stdout, err)
			}, func(done, all int) {
				blocks = done
				bar.set("verify", int64(done), int64(all))
			})
			bar.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "%d blocks verified, %d problems\n", blocks, wrong)
			switch {
			case deltas > 0:
				fmt.Fprintf(e.stdout, "%d write sets are damaged or missing, and nothing can make them again: bring them back from a backup of %s\n",
					deltas, filepath.Join(data, "deltas"))
			case wrong > 0:
				fmt.Fprintln(e.stdout, "all write sets are whole: what is damaged is made again when it is used, or now by accessor recover")
			}
			if wrong > 0 {
				return &exitError{status: exitDiffers}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	return cmd
}

func newRecover(e *env) *cobra.Command {
	var data string
	var drop bool
	cmd := &cobra.Command{
		Use:   "recover --data DIR",
		Short: "Rebuild the block records of a store from its deltas",
		Long: `Rebuilds blocks/ from the deltas, then makes all checkpoints again. It is for a
store that can't be opened, or whose records contradict its deltas; a checkpoint,
image or run that is damaged is made again by itself. The old blocks/ are moved to
lost/. It may be interrupted and run again: from the moment that it says that it
seals checkpoints, the store can be used.

Where a delta is damaged or missing, so are all blocks above it. Nothing is then
changed, and the exit status is 1: bring the delta back from a backup, or say
--drop-damaged to go on without those blocks. Their deltas are moved to lost/,
never removed.`,
		Example: "  accessor recover --data /var/lib/accessor",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return usageError("no store given: use --data DIR")
			}
			log, err := e.logger()
			if err != nil {
				return err
			}
			engine := newEngine()
			defer engine.Close()
			bar := newProgress(e.stderr, data)
			report, err := checkpoint.Recover(data, engine, checkpoint.Options{Log: log}, drop, func(done, all int) {
				bar.set("read deltas", int64(done), int64(all))
			})
			if errors.Is(err, checkpoint.ErrWouldLose) {
				bar.done()
				for _, lost := range report.Lost {
					fmt.Fprintln(e.stdout, "can't be used:", lost)
				}
				fmt.Fprintf(e.stdout, "%d deltas can't be used; nothing was changed. Bring them back from a backup, or use --drop-damaged\n", len(report.Lost))
				return &exitError{status: exitDiffers}
			}
			if err != nil {
				bar.done()
				return err
			}
			made, err := reseal(cmd, e, data, bar)
			bar.done()
			if err != nil {
				return err
			}
			for _, lost := range report.Lost {
				fmt.Fprintln(e.stdout, "moved to lost/:", lost)
			}
			if report.OldRecords != "" {
				fmt.Fprintln(e.stdout, "old records are in", report.OldRecords)
			}
			fmt.Fprintf(e.stdout, "%d blocks recovered, %d checkpoints made, %d deltas lost\n", report.Blocks, made, len(report.Lost))
			if len(report.Lost) > 0 {
				return &exitError{status: exitDiffers}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "directory of the store")
	cmd.Flags().BoolVar(&drop, "drop-damaged", false, "go on without the blocks whose deltas can't be used")
	return cmd
}

// reseal makes the checkpoints of a recovered store and says how many.
func reseal(cmd *cobra.Command, e *env, data string, bar *progress) (int64, error) {
	acc, done, err := e.openStore(data) // which makes some already
	if err != nil {
		return 0, err
	}
	defer done()
	_, err = acc.Reseal(cmd.Context(), func(done, all int) { bar.set("seal checkpoints", int64(done), int64(all)) })
	return acc.Store().Stats().Sealed.Load(), err
}
