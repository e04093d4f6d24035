package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// newConfig is `accessor config`.
func newConfig(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config [flags]",
		Short: "Print the effective configuration of accessor serve, with the source of each value",
		Long: `Puts the configuration of accessor serve together, as that does from the file, from
ACCESSOR_… variables and from the same flags, checks it, and prints it as a
configuration file: before each setting what it means, beside it where its value
comes from (default, FILE:LINE, $VARIABLE or --flag). Without any of them it prints
the defaults, to begin a file with.

A variable is named after its setting: ACCESSOR_LOG_LEVEL is level in [log];
ACCESSOR_SOCKET and ACCESSOR_LISTEN set one socket or address.`,
		Example: `  accessor config > accessor.toml
  accessor config --config /etc/accessor/accessor.toml --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := settings(cmd)()
			if err != nil {
				return configError(err)
			}
			for _, w := range loaded.Warnings {
				fmt.Fprintln(e.stderr, "accessor: config:", w)
			}
			if !asJSON {
				return loaded.WriteTOML(e.stdout)
			}
			text, err := json.MarshalIndent(loaded.Effective(), "", "  ")
			if err != nil {
				panic(err) // plain values
			}
			_, err = fmt.Fprintf(e.stdout, "%s\n", text)
			return err
		},
	}
	settingFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: settings, and the source of each")
	return cmd
}
