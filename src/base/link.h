/* Classes of links between ranks, for counting. */
#ifndef MB_BASE_LINK_H
#define MB_BASE_LINK_H
enum mb_link {
    MB_LINK_SELF,  /* the same rank */
    MB_LINK_SHM,   /* shared memory inside a node */
    MB_LINK_INTRA, /* MPI inside a node */
    MB_LINK_INTER, /* MPI between nodes */
    MB_LINK_COUNT
};
#endif
