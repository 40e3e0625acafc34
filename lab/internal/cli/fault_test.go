package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/fault"
)

func TestFaultKind(t *testing.T) {
	for _, c := range []struct {
		hold, code string
		late       time.Duration
		lose       bool
		want       string
	}{
		{hold: "before", want: fault.HoldBefore},
		{hold: "after", want: fault.HoldAfter},
		{code: "InternalError", want: fault.Refuse},
		{late: time.Second, want: fault.Delay},
		{lose: true, want: fault.Lose},
		{},
		{hold: "between"},
		{hold: "after", lose: true},
		{code: "InternalError", late: time.Second},
	} {
		got, err := faultKind(c.hold, c.code, c.late, c.lose)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestFaultID(t *testing.T) {
	if id, err := faultID(nil); id != 0 || err != nil {
		t.Errorf("all: %d, %v", id, err)
	}
	if id, err := faultID([]string{"12"}); id != 12 || err != nil {
		t.Errorf("one: %d, %v", id, err)
	}
	for _, bad := range []string{"0", "-1", "x", ""} {
		var usage usageError
		if _, err := faultID([]string{bad}); !errors.As(err, &usage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPrintFaults(t *testing.T) {
	var b strings.Builder
	err := printFaults(&b, []fault.Status{
		{Fault: fault.Fault{ID: 1, Service: "ec2", Action: "CreateNetworkInterface", Kind: fault.HoldAfter, Times: 1}, Hits: 1, Held: 1},
		{Fault: fault.Fault{ID: 2, Service: "ec2", Action: "AssignPrivateIpAddresses", Kind: fault.Refuse, Code: "RequestLimitExceeded", Skip: 3, Params: map[string]string{"NetworkInterfaceId": "eni-1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1   ec2:CreateNetworkInterface    hold-after, ×1", "1     1", "refuse RequestLimitExceeded NetworkInterfaceId=eni-1, after 3"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}
