package imapcmd

import (
	"bytes"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestManual pins that man page and --help show the usage as it is.
func TestManual(t *testing.T) {
	for _, name := range []string{"imap-proxy", "imap-check"} {
		c := caddycmd.Commands()[name]
		// As Caddy does it.
		root := &cobra.Command{Use: "caddy"}
		cmd := &cobra.Command{Use: c.Name + " " + c.Usage, Short: c.Short, Long: c.Long}
		c.CobraFunc(cmd)
		root.AddCommand(cmd)

		var page, help bytes.Buffer
		if err := doc.GenMan(cmd, &doc.GenManHeader{Section: "8"}, &page); err != nil {
			t.Fatal(err)
		}
		usage := "caddy " + c.Name + " " + c.Usage + " [flags]"
		if !strings.Contains(page.String(), `\fB`+usage+`\fP`) {
			t.Errorf("the man page does not have %q:\n%s", usage, page.String())
		}
		root.SetOut(&help)
		root.SetArgs([]string{name, "--help"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(help.String(), "\n  "+usage+"\n") {
			t.Errorf("--help does not have %q:\n%s", usage, help.String())
		}
		// Commands in the text are not filled.
		if !strings.Contains(page.String(), ".EX\n") && !strings.Contains(page.String(), ".nf\n") {
			t.Errorf("the man page has no examples:\n%s", page.String())
		}
	}
}
