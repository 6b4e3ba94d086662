// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <sys/utsname.h>

int main(void) {
    struct utsname machine;
    if (uname(&machine) != 0) {
        perror("uname");
        return 1;
    }
    printf("hello from C on %s %s, pointers of %zu bits\n", machine.sysname, machine.machine, 8 * sizeof(void *));
    return 0;
}
