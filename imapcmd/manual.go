package imapcmd

import (
	"strings"

	"github.com/spf13/cobra"
)

// forManual makes the usage of a command fit for its man page. That is made from
// Markdown, in which <name> would be a tag and vanish. What --help shows stays the same.
func forManual(cmd *cobra.Command) {
	_, flags, _ := strings.Cut(cmd.Use, " ")
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "{{.UseLine}}", "{{.CommandPath}} "+flags+" [flags]"))
	cmd.Use = strings.NewReplacer("<", `\<`, ">", `\>`).Replace(cmd.Use)
}
