package main

import (
	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of an action",
		Long: "schema prints the JSON Schema (draft 2020-12) of an action, which is the body of a\n" +
			"message: for producers in other languages, and for their tests. What a schema cannot\n" +
			"say is in its description. It needs no configuration.",
		Args: cobra.NoArgs,
		RunE: doing(func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(consumer.ActionSchema())
			return err
		}),
	}
}
