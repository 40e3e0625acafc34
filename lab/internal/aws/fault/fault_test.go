package fault

import (
	"errors"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// deadline bounds what must happen soon.
const deadline = 10 * time.Second

type outcome struct {
	answer any
	err    error
}

// made is a call that is under way.
type made struct {
	acted  chan struct{}
	result chan outcome
}

func begin(t *Table, c Call) made {
	m := made{make(chan struct{}), make(chan outcome, 1)}
	go func() {
		out, err := t.Around(c, func() (any, error) {
			close(m.acted)
			return "done", nil
		})
		m.result <- outcome{out, err}
	}()
	return m
}

func (m made) done() bool {
	select {
	case <-m.acted:
		return true
	default:
		return false
	}
}

func (m made) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case o := <-m.result:
		return o
	case <-time.After(deadline):
		t.Fatal("no answer")
		return outcome{}
	}
}

func call(action string, params map[string]string) Call {
	return Call{Service: "ec2", Action: action, Param: func(name string) string { return params[name] }}
}

func set(t *testing.T, table *Table, f Fault) int {
	t.Helper()
	f.Service = "ec2"
	id, err := table.Set(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func held(t *testing.T, table *Table, n int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(deadline); ; {
		sum := 0
		for _, s := range table.List() {
			sum += s.Held
		}
		if sum == n {
			return
		}
		select {
		case <-end:
			t.Fatalf("%d calls are held, want %d", sum, n)
		case <-tick.C:
		}
	}
}

func TestHold(t *testing.T) {
	for _, kind := range []string{HoldBefore, HoldAfter} {
		t.Run(kind, func(t *testing.T) {
			table := &Table{}
			id := set(t, table, Fault{Action: "Create", Kind: kind})
			m := begin(table, call("Create", nil))
			held(t, table, 1)
			if kind == HoldBefore && m.done() {
				t.Error("carried out before it was released")
			}
			if kind == HoldAfter && !m.done() {
				t.Error("not carried out at once")
			}
			if n, err := table.Release(id); n != 1 || err != nil {
				t.Errorf("released %d: %v", n, err)
			}
			if o := m.wait(t); o.err != nil || o.answer != "done" || !m.done() {
				t.Errorf("released: %+v", o)
			}
			// The fault stays; cleared, its calls end without an answer.
			m = begin(table, call("Create", nil))
			held(t, table, 1)
			if n, err := table.Clear(id); n != 1 || err != nil {
				t.Errorf("cleared %d: %v", n, err)
			}
			if o := m.wait(t); !errors.Is(o.err, ErrNoAnswer) || m.done() != (kind == HoldAfter) {
				t.Errorf("cleared: %+v, carried out: %v", o, m.done())
			}
			if o := begin(table, call("Create", nil)).wait(t); o.err != nil {
				t.Errorf("after it was cleared: %v", o.err)
			}
			if len(table.List()) != 0 {
				t.Errorf("left: %+v", table.List())
			}
		})
	}
}

// Which calls are hit: of the action, with the parameters, after those that are skipped, as many as said.
func TestWhichCalls(t *testing.T) {
	table := &Table{}
	set(t, table, Fault{Action: "Create", Kind: Refuse, Code: "RequestLimitExceeded", Skip: 1, Times: 2, Params: map[string]string{"SubnetId": "subnet-1"}})
	one := map[string]string{"SubnetId": "subnet-1"}
	for i, c := range []struct {
		call Call
		hit  bool
	}{
		{call("Delete", one), false},
		{call("Create", map[string]string{"SubnetId": "subnet-2"}), false},
		{call("Create", one), false}, // skipped
		{call("Create", one), true},
		{Call{Service: "sts", Action: "Create", Param: func(string) string { return "subnet-1" }}, false},
		{call("Create", one), true},
		{call("Create", one), false},
	} {
		o := begin(table, c.call).wait(t)
		if hit := apierror.Code(o.err) == "RequestLimitExceeded"; hit != c.hit {
			t.Errorf("call %d: %+v", i+1, o)
		}
	}
	if s := table.List(); len(s) != 1 || s[0].Hits != 2 || s[0].Held != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRefusalHasItsStatus(t *testing.T) {
	table := &Table{}
	for code, want := range map[string]int{"RequestLimitExceeded": 503, "UnauthorizedOperation": 403, "InternalError": 500, "InsufficientFreeAddressesInSubnet": 400} {
		id := set(t, table, Fault{Action: "Assign", Kind: Refuse, Code: code, Message: "as asked for"})
		m := begin(table, call("Assign", nil))
		o := m.wait(t)
		if e := apierror.From(o.err); e.Code != code || e.HTTPStatus() != want || e.Message != "as asked for" || m.done() {
			t.Errorf("%s: %+v with status %d", code, e, e.HTTPStatus())
		}
		if _, err := table.Clear(id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLose(t *testing.T) {
	table := &Table{}
	set(t, table, Fault{Action: "Assign", Kind: Lose})
	m := begin(table, call("Assign", nil))
	if o := m.wait(t); !errors.Is(o.err, ErrNoAnswer) || !m.done() {
		t.Errorf("%+v, carried out: %v", o, m.done())
	}
}

func TestDelay(t *testing.T) {
	table := &Table{}
	id := set(t, table, Fault{Action: "Describe", Kind: Delay, Delay: 50 * time.Millisecond})
	began := time.Now()
	if o := begin(table, call("Describe", nil)).wait(t); o.err != nil || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%+v after %s", o, time.Since(began))
	}
	if _, err := table.Clear(id); err != nil {
		t.Fatal(err)
	}
	set(t, table, Fault{Action: "Describe", Kind: Delay, Delay: time.Hour})
	m := begin(table, call("Describe", nil))
	if _, err := table.Clear(0); err != nil {
		t.Fatal(err)
	}
	// Either it was cleared before the call came, or the call ended with it.
	if o := m.wait(t); o.err != nil && !errors.Is(o.err, ErrNoAnswer) {
		t.Errorf("%+v", o)
	}
}

func TestMistakes(t *testing.T) {
	table := &Table{}
	for name, f := range map[string]Fault{
		"no kind":      {Service: "ec2", Action: "A"},
		"no action":    {Service: "ec2", Kind: Lose},
		"no service":   {Action: "A", Kind: Lose},
		"no code":      {Service: "ec2", Action: "A", Kind: Refuse},
		"no delay":     {Service: "ec2", Action: "A", Kind: Delay},
		"endless":      {Service: "ec2", Action: "A", Kind: Delay, Delay: 2 * time.Hour},
		"times below":  {Service: "ec2", Action: "A", Kind: Lose, Times: -1},
		"skip below 0": {Service: "ec2", Action: "A", Kind: Lose, Skip: -1},
	} {
		if _, err := table.Set(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var unknown *UnknownError
	if _, err := table.Release(7); !errors.As(err, &unknown) || unknown.ID != 7 {
		t.Errorf("release of an unknown fault: %v", err)
	}
	if _, err := table.Clear(7); !errors.As(err, &unknown) {
		t.Errorf("clear of an unknown fault: %v", err)
	}
	if n, err := table.Clear(0); n != 0 || err != nil {
		t.Errorf("nothing to clear: %d, %v", n, err)
	}
	var none *Table
	if out, err := none.Around(call("A", nil), func() (any, error) { return 1, nil }); out != 1 || err != nil {
		t.Errorf("without a table: %v, %v", out, err)
	}
}
