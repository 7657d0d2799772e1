#include <stdio.h>
int main(void)
{
    puts("moebatch");
    return 0;
}
