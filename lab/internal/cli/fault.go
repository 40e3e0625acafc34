package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/aws/fault"
	"github.com/weft-cni/weft/lab/internal/daemon"
)

func (a *app) faultCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "fault", Short: "Make calls to AWS fail on demand",
		Long: `A fault hits the calls of one action: those that the caller may make, whose parameters are known, and that aren't
a dry run. It stays until it is cleared or has hit as many calls as --times says.`,
		Example: `  lab fault set CreateNetworkInterface --hold after --times 1
  lab fault set AssignPrivateIpAddresses --error RequestLimitExceeded
  lab fault list
  lab fault release 1
  lab fault clear`,
	})
	cmd.AddCommand(a.faultSet(), a.faultList(), a.faultRelease(), a.faultClear())
	return cmd
}

func (a *app) faultSet() *cobra.Command {
	var f fault.Fault
	var hold string
	var late time.Duration
	var lose bool
	cmd := &cobra.Command{
		Use: "set [SERVICE:]ACTION", Short: "Arm a fault and print its number",
		Long: `--hold before: the call is carried out when it is released, and answered then. --hold after: it is carried out at
once, and answered when it is released. Who calls may be gone by then. --lose: it is carried out and the connection ends.`,
		Example: `  lab fault set CreateNetworkInterface --hold after --times 1
  lab fault set AttachNetworkInterface --error AttachmentLimitExceeded --param InstanceId=i-0123456789abcdef0
  lab fault set DescribeNetworkInterfaces --delay 5s
  lab fault set sts:AssumeRoleWithWebIdentity --error InvalidIdentityToken`,
		Args: exactly(1, "an action"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Service, f.Action = "ec2", args[0]
			if service, action, ok := strings.Cut(args[0], ":"); ok {
				f.Service, f.Action = service, action
			}
			kind, err := faultKind(hold, f.Code, late, lose)
			if err != nil {
				return usageError{err}
			}
			f.Kind, f.Delay = kind, late
			client, err := a.client()
			if err != nil {
				return err
			}
			id, err := client.SetFault(cmd.Context(), f)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, id)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&hold, "hold", "", "withhold the answer: before or after the call is carried out")
	flags.StringVar(&f.Code, "error", "", "answer with this error code of AWS's")
	flags.StringVar(&f.Message, "message", "", "the error's text")
	flags.DurationVar(&late, "delay", 0, "carry the call out that much later")
	flags.BoolVar(&lose, "lose", false, "carry the call out, but never answer")
	flags.IntVar(&f.Times, "times", 0, "how many calls to hit (0: all)")
	flags.IntVar(&f.Skip, "skip", 0, "how many calls to let through first")
	flags.StringToStringVar(&f.Params, "param", nil, "only calls with this parameter, as NAME=VALUE of the query protocol")
	return cmd
}

// faultKind is what the flags ask for: exactly one of them.
func faultKind(hold, code string, late time.Duration, lose bool) (string, error) {
	var kinds []string
	switch hold {
	case "":
	case "before":
		kinds = append(kinds, fault.HoldBefore)
	case "after":
		kinds = append(kinds, fault.HoldAfter)
	default:
		return "", fmt.Errorf("fault: --hold: found %q, expected before or after", hold)
	}
	if code != "" {
		kinds = append(kinds, fault.Refuse)
	}
	if late != 0 {
		kinds = append(kinds, fault.Delay)
	}
	if lose {
		kinds = append(kinds, fault.Lose)
	}
	if len(kinds) != 1 {
		return "", errors.New("fault: expected one of --hold, --error, --delay, --lose")
	}
	return kinds[0], nil
}

func (a *app) faultList() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "Print the faults and how many calls each hit and holds", Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			faults, err := client.Faults(cmd.Context())
			if err != nil {
				return err
			}
			switch output {
			case "":
				return printFaults(a.out, faults)
			case "json":
				return json.NewEncoder(a.out).Encode(faults)
			default:
				return usageError{fmt.Errorf("fault list: --output: found %q, expected json", output)}
			}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

func printFaults(out io.Writer, faults []fault.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tACTION\tFAULT\tHITS\tHELD")
	for _, f := range faults {
		fmt.Fprintf(w, "%d\t%s:%s\t%s\t%d\t%d\n", f.ID, f.Service, f.Action, describeFault(f.Fault), f.Hits, f.Held)
	}
	return w.Flush()
}

func describeFault(f fault.Fault) string {
	text := f.Kind
	switch f.Kind {
	case fault.Refuse:
		text += " " + f.Code
	case fault.Delay:
		text += " " + f.Delay.String()
	}
	for _, name := range slices.Sorted(maps.Keys(f.Params)) {
		text += " " + name + "=" + f.Params[name]
	}
	if f.Skip > 0 {
		text += fmt.Sprintf(", after %d", f.Skip)
	}
	if f.Times > 0 {
		text += fmt.Sprintf(", ×%d", f.Times)
	}
	return text
}

func (a *app) faultRelease() *cobra.Command {
	return a.faultByID("release", "Let the calls go on that a fault holds, or all", "%d calls released\n", (*daemon.Client).ReleaseFault)
}

func (a *app) faultClear() *cobra.Command {
	return a.faultByID("clear", "Remove a fault, or all; calls that it holds end without an answer", "%d faults removed\n", (*daemon.Client).ClearFault)
}

// faultByID is a command on one fault or on all, and says how many there were.
func (a *app) faultByID(name, short, said string, do func(*daemon.Client, context.Context, int) (int, error)) *cobra.Command {
	return &cobra.Command{
		Use: name + " [ID]", Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := faultID(args)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			n, err := do(client, cmd.Context(), id)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, said, n)
			return nil
		},
	}
}

// faultID reads the number of a fault; 0 stands for all.
func faultID(args []string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	id, err := strconv.Atoi(args[0])
	if err != nil || id < 1 {
		return 0, usageError{fmt.Errorf("fault: found %q, expected a number that lab fault list shows", args[0])}
	}
	return id, nil
}
