package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// ClientToken of the ENI that a node gets at a device index. The same until epoch moves on, so that a
// repeated Create, by this operator or by the next, returns the same ENI.
func ClientToken(nodeUID string, deviceIndex int, epoch int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "weft/v1\x00%s\x00%d\x00%d", nodeUID, deviceIndex, epoch))
	return hex.EncodeToString(sum[:])
}
