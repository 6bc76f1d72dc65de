"""M2N2: an archive that shares documents, complementary mates."""
